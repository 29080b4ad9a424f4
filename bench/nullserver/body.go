package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"hash/crc64"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

const (
	// Bodies below this are read and checked as S3 checks them; others are thrown away unread.
	checkedBytes   = 1 << 10
	mostStored     = 64 << 20
	discardBytes   = 256 << 10
	trailerPayload = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	crcHeader      = "X-Amz-Checksum-Crc64nvme"
)

var discards = sync.Pool{New: func() any { return new([discardBytes]byte) }}

// bodySize is the number of bytes of the object in a request, whatever frames it is sent in.
func bodySize(r *http.Request) int64 {
	if text := r.Header.Get("X-Amz-Decoded-Content-Length"); text != "" {
		if size, err := strconv.ParseInt(text, 10, 64); err == nil {
			return size
		}
	}
	return max(r.ContentLength, 0)
}

// discard reads a body to its end with as few calls as possible.
func discard(body io.Reader) error {
	buffer := discards.Get().(*[discardBytes]byte)
	defer discards.Put(buffer)
	for {
		if _, err := body.Read(buffer[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// checked reads a body whole and compares it with every digest the request names.
func checked(r *http.Request) ([]byte, *failure) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, mostStored))
	if err != nil {
		return nil, incomplete
	}
	payload := r.Header.Get("X-Amz-Content-Sha256")
	claimed := r.Header.Get(crcHeader)
	body := raw
	if payload == trailerPayload {
		var trailers map[string]string
		if body, trailers, err = decodeChunks(raw); err != nil {
			return nil, incomplete
		}
		claimed = trailers[strings.ToLower(crcHeader)]
	} else if len(payload) == hex.EncodedLen(sha256.Size) {
		sum := sha256.Sum256(body)
		if hex.EncodeToString(sum[:]) != payload {
			return nil, &failure{http.StatusBadRequest, "XAmzContentSHA256Mismatch", "the body has another SHA-256"}
		}
	}
	if claimed != "" && claimed != crcOf(body) {
		return nil, &failure{http.StatusBadRequest, "BadDigest", "the body has another CRC64NVME"}
	}
	return body, nil
}

func crcOf(body []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc64.Checksum(body, nvme)))
}

// decodeChunks takes aws-chunked apart: the body and its trailers, names in lower case.
// Format: S3 user guide, «Signature calculations: including trailing headers (chunked upload)».
func decodeChunks(raw []byte) ([]byte, map[string]string, error) {
	reader := bufio.NewReader(bytes.NewReader(raw))
	var body bytes.Buffer
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return nil, nil, err
		}
		text, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		size, err := strconv.ParseInt(text, 16, 64)
		if err != nil {
			return nil, nil, err
		}
		if size == 0 {
			break
		}
		if _, err := io.CopyN(&body, reader, size); err != nil {
			return nil, nil, err
		}
		if _, err := reader.Discard(len("\r\n")); err != nil {
			return nil, nil, err
		}
	}
	trailers := map[string]string{}
	for {
		line, err := reader.ReadString('\n')
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			trailers[strings.ToLower(name)] = strings.TrimSpace(value)
		}
		if err == io.EOF {
			return body.Bytes(), trailers, nil
		}
		if err != nil {
			return nil, nil, err
		}
	}
}
