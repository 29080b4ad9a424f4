package main

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

func call(t *testing.T, method, url string, body []byte, headers map[string]string) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, text
}

func running(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(newServer(100_000, 0))
	t.Cleanup(server.Close)
	return server.URL
}

func expect(t *testing.T, response *http.Response, body []byte, status int, code string) {
	t.Helper()
	if response.StatusCode != status || !strings.Contains(string(body), code) {
		t.Fatalf("%d %s, want %d %s", response.StatusCode, body, status, code)
	}
}

func hexMD5(body []byte) string {
	sum := md5.Sum(body)
	return hex.EncodeToString(sum[:])
}

func TestAnObjectHasTheSizeItsKeyNamesAndItsMD5AsETag(t *testing.T) {
	response, body := call(t, "GET", running(t)+"/b/any/key@70000", nil, nil)
	if len(body) != 70_000 || response.Header.Get("ETag") != quoted(hexMD5(body)) {
		t.Fatalf("%d bytes, ETag %s", len(body), response.Header.Get("ETag"))
	}
}

func TestARangeIsThatPartOfTheObject(t *testing.T) {
	url := running(t) + "/b/key@200000"
	_, whole := call(t, "GET", url, nil, nil)
	response, piece := call(t, "GET", url, nil, map[string]string{"Range": "bytes=1000-150999"})
	expect(t, response, nil, http.StatusPartialContent, "")
	if !bytes.Equal(piece, whole[1000:151_000]) || response.Header.Get("Content-Range") != "bytes 1000-150999/200000" {
		t.Fatal("another range")
	}
}

func TestIfMatchIsHonoured(t *testing.T) {
	url := running(t) + "/b/key"
	response, body := call(t, "GET", url, nil, map[string]string{"If-Match": `"other"`})
	expect(t, response, body, http.StatusPreconditionFailed, "PreconditionFailed")
	response, _ = call(t, "GET", url, nil, map[string]string{"If-Match": etagOf(t, url)})
	expect(t, response, nil, http.StatusOK, "")
}

func etagOf(t *testing.T, url string) string {
	response, _ := call(t, "HEAD", url, nil, nil)
	return response.Header.Get("ETag")
}

func TestAMissingKeyIsMissing(t *testing.T) {
	response, body := call(t, "GET", running(t)+"/b/missing/key", nil, nil)
	expect(t, response, body, http.StatusNotFound, "NoSuchKey")
}

func TestAWrittenBodyHasTheETagOfAServedOneOfItsSize(t *testing.T) {
	url := running(t)
	_, served := call(t, "GET", url+"/b/key", nil, nil)
	response, _ := call(t, "PUT", url+"/b/other", served, nil)
	if response.Header.Get("ETag") != quoted(hexMD5(served)) {
		t.Fatal(response.Header)
	}
}

func TestATinyBodyThatIsNotTheSignedOneIsRefused(t *testing.T) {
	url := running(t) + "/b/tiny"
	sum := sha256.Sum256([]byte("right"))
	headers := map[string]string{"X-Amz-Content-Sha256": hex.EncodeToString(sum[:])}
	response, body := call(t, "PUT", url, []byte("wrong"), headers)
	expect(t, response, body, http.StatusBadRequest, "XAmzContentSHA256Mismatch")
	response, _ = call(t, "PUT", url, []byte("right"), headers)
	expect(t, response, nil, http.StatusOK, "")
}

func TestATinyBodyWithAWrongTrailingChecksumIsRefused(t *testing.T) {
	url := running(t) + "/b/tiny"
	send := func(crc string) (*http.Response, []byte) {
		framed := fmt.Sprintf("9\r\n123456789\r\n0\r\nx-amz-checksum-crc64nvme:%s\r\n\r\n", crc)
		return call(t, "PUT", url, []byte(framed), map[string]string{
			"X-Amz-Content-Sha256": trailerPayload, "X-Amz-Decoded-Content-Length": "9",
		})
	}
	response, body := send("AAAAAAAAAAA=")
	expect(t, response, body, http.StatusBadRequest, "BadDigest")
	// The check value of CRC-64/NVME in the catalogue of CRC algorithms is ae8b14860a799888.
	response, _ = send("rosUhgp5mIg=")
	expect(t, response, nil, http.StatusOK, "")
	if response.Header.Get("ETag") != quoted(hexMD5([]byte("123456789"))) {
		t.Fatal(response.Header)
	}
}

func TestAMultipartUploadEndsInAnObjectWithItsChecksum(t *testing.T) {
	url := running(t) + "/b/large"
	headers := map[string]string{"X-Amz-Checksum-Type": "FULL_OBJECT", "X-Amz-Checksum-Algorithm": "CRC64NVME"}
	response, body := call(t, "POST", url+"?uploads=", nil, headers)
	expect(t, response, body, http.StatusOK, "<UploadId>")
	_, rest, _ := strings.Cut(string(body), "<UploadId>")
	id, _, _ := strings.Cut(rest, "<")
	for number := 1; number <= 2; number++ {
		response, body = call(t, "PUT", url+"?partNumber="+strconv.Itoa(number)+"&uploadId="+id, make([]byte, 50_000), nil)
		expect(t, response, body, http.StatusOK, "")
	}
	_, body = call(t, "GET", url+"?uploadId="+id, nil, nil)
	if strings.Count(string(body), "<Size>50000</Size>") != 2 {
		t.Fatalf("%s", body)
	}
	asked := "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part><Part><PartNumber>2</PartNumber></Part></CompleteMultipartUpload>"
	response, body = call(t, "POST", url+"?uploadId="+id, []byte(asked), map[string]string{crcHeader: "rosUhgp5mIg="})
	expect(t, response, body, http.StatusOK, "<ETag>")
	response, _ = call(t, "HEAD", url, nil, map[string]string{"X-Amz-Checksum-Mode": "ENABLED"})
	if response.ContentLength != 100_000 || response.Header.Get(crcHeader) != "rosUhgp5mIg=" {
		t.Fatal(response.Header)
	}
	response, body = call(t, "DELETE", url+"?uploadId="+id, nil, nil)
	expect(t, response, body, http.StatusNotFound, "NoSuchUpload")
}

func TestTheInventoryBucketKeepsWhatIsPutThere(t *testing.T) {
	url := running(t) + "/inv/data.csv"
	response, body := call(t, "GET", url, nil, nil)
	expect(t, response, body, http.StatusNotFound, "NoSuchKey")
	call(t, "PUT", url, bytes.Repeat([]byte("row\n"), 1000), nil)
	_, body = call(t, "GET", url, nil, nil)
	if len(body) != 4000 || string(body[:4]) != "row\n" {
		t.Fatalf("%d bytes", len(body))
	}
}
