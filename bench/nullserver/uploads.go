package main

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
)

const partsPerPage = 1000

type part struct {
	XMLName xml.Name `xml:"Part"`
	Number  int      `xml:"PartNumber"`
	ETag    string
	Size    int64
}

type upload struct {
	fullObject bool
	parts      map[int]part
}

// object is what is known of a key that was completed or stored; body is nil where the constant one stands for it.
type object struct {
	size int64
	etag string
	crc  string
	body []byte
}

// uploads are the multipart uploads under way.
type uploads struct {
	last atomic.Int64
	mu   sync.Mutex
	open map[string]*upload
}

func (u *uploads) create(fullObject bool) string {
	id := fmt.Sprintf("upload-%d", u.last.Add(1))
	u.mu.Lock()
	defer u.mu.Unlock()
	u.open[id] = &upload{fullObject: fullObject, parts: map[int]part{}}
	return id
}

func (u *uploads) put(id string, number int, etag string, size int64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	found, known := u.open[id]
	if known {
		found.parts[number] = part{Number: number, ETag: quoted(etag), Size: size}
	}
	return known
}

func (u *uploads) abort(id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, known := u.open[id]
	delete(u.open, id)
	return known
}

// list is one page of the parts after `marker`, in order; more tells whether others follow.
func (u *uploads) list(id string, marker int) (page []part, more, known bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	found, known := u.open[id]
	if !known {
		return nil, false, false
	}
	for number, one := range found.parts {
		if number > marker {
			page = append(page, one)
		}
	}
	sort.Slice(page, func(a, b int) bool { return page[a].Number < page[b].Number })
	if len(page) > partsPerPage {
		return page[:partsPerPage], true, true
	}
	return page, false, true
}

// complete ends an upload. The CRC is taken on trust: the bytes are gone.
func (u *uploads) complete(id string, numbers []int, crc string) (object, *failure) {
	u.mu.Lock()
	defer u.mu.Unlock()
	found, known := u.open[id]
	if !known {
		return object{}, noSuchUpload
	}
	var size int64
	for _, number := range numbers {
		one, there := found.parts[number]
		if !there {
			return object{}, &failure{http.StatusBadRequest, "InvalidPart", "a part named was never uploaded"}
		}
		size += one.Size
	}
	delete(u.open, id)
	if !found.fullObject {
		crc = ""
	}
	return object{size: size, etag: fmt.Sprintf("%032x-%d", size, len(numbers)), crc: crc}, nil
}

type completeRequest struct {
	Parts []struct {
		Number int `xml:"PartNumber"`
	} `xml:"Part"`
}

func (s *server) createUpload(w http.ResponseWriter, r *http.Request, bucket, key string) {
	fullObject := r.Header.Get("X-Amz-Checksum-Type") == "FULL_OBJECT"
	if fullObject {
		w.Header()["X-Amz-Checksum-Type"] = []string{"FULL_OBJECT"}
		w.Header()["X-Amz-Checksum-Algorithm"] = []string{"CRC64NVME"}
	}
	s.answerXML(w, struct {
		XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
		Bucket   string
		Key      string
		UploadID string `xml:"UploadId"`
	}{Bucket: bucket, Key: key, UploadID: s.uploads.create(fullObject)})
}

func (s *server) completeUpload(w http.ResponseWriter, r *http.Request, bucket, key, id string) {
	var asked completeRequest
	if err := xml.NewDecoder(r.Body).Decode(&asked); err != nil {
		s.refuse(w, &failure{http.StatusBadRequest, "MalformedXML", err.Error()})
		return
	}
	numbers := make([]int, len(asked.Parts))
	for i, one := range asked.Parts {
		numbers[i] = one.Number
	}
	done, failed := s.uploads.complete(id, numbers, r.Header.Get(crcHeader))
	if failed != nil {
		s.refuse(w, failed)
		return
	}
	s.store(bucket+"/"+key, done)
	s.answerXML(w, struct {
		XMLName xml.Name `xml:"CompleteMultipartUploadResult"`
		Bucket  string
		Key     string
		ETag    string
	}{Bucket: bucket, Key: key, ETag: quoted(done.etag)})
}

func (s *server) listParts(w http.ResponseWriter, bucket, key string, query url.Values) {
	id := query.Get("uploadId")
	marker, _ := strconv.Atoi(query.Get("part-number-marker"))
	page, more, known := s.uploads.list(id, marker)
	if !known {
		s.refuse(w, noSuchUpload)
		return
	}
	next := marker
	if len(page) > 0 {
		next = page[len(page)-1].Number
	}
	s.answerXML(w, struct {
		XMLName              xml.Name `xml:"ListPartsResult"`
		Bucket               string
		Key                  string
		UploadID             string `xml:"UploadId"`
		NextPartNumberMarker int
		IsTruncated          bool
		Parts                []part
	}{Bucket: bucket, Key: key, UploadID: id, NextPartNumberMarker: next, IsTruncated: more, Parts: page})
}
