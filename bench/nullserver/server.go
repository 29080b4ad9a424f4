package main

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// storedBucket is the one bucket whose objects are really kept: the inventory.
	storedBucket  = "inv"
	missingPrefix = "missing"
	statsPath     = "/-/stats"
)

type failure struct {
	status        int
	code, message string
}

var (
	noSuchKey    = &failure{http.StatusNotFound, "NoSuchKey", "no object has this key"}
	noSuchUpload = &failure{http.StatusNotFound, "NoSuchUpload", "no upload has this id"}
	incomplete   = &failure{http.StatusBadRequest, "IncompleteBody", "the body ended early or cannot be read"}
	changed      = &failure{http.StatusPreconditionFailed, "PreconditionFailed", "the object has another ETag"}
	badRange     = &failure{http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "the range is outside the object"}
	notKnown     = &failure{http.StatusNotImplemented, "NotImplemented", "the null server does not know this request"}
)

var octets = []string{"binary/octet-stream"}

// counters of requests by kind, and of object bytes.
type counters struct {
	get, head, put, uploadPart, control, refused, bytesOut, bytesIn atomic.Int64
}

type server struct {
	content  *content
	size     int64
	latency  time.Duration
	modified []string
	uploads  uploads
	stats    counters
	mu       sync.RWMutex
	objects  map[string]object
}

func newServer(size int64, latency time.Duration) *server {
	return &server{
		content:  newContent(),
		size:     size,
		latency:  latency,
		modified: []string{time.Now().UTC().Format(http.TimeFormat)},
		uploads:  uploads{open: map[string]*upload{}},
		objects:  map[string]object{},
	}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == statsPath {
		s.answerStats(w)
		return
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case key == "":
		s.serveBucket(w, r)
	case r.URL.RawQuery == "" || r.URL.RawQuery == "x-id=GetObject" || r.URL.RawQuery == "x-id=PutObject":
		s.serveObject(w, r, bucket, key)
	default:
		s.serveUpload(w, r, bucket, key)
	}
}

// serveBucket says yes: every bucket exists.
func (s *server) serveBucket(w http.ResponseWriter, r *http.Request) {
	s.stats.control.Add(1)
	if (r.Method != http.MethodHead && r.Method != http.MethodPut) || discard(r.Body) != nil {
		s.refuse(w, notKnown)
		return
	}
	s.pause()
}

func (s *server) serveObject(w http.ResponseWriter, r *http.Request, bucket, key string) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		s.get(w, r, bucket, key)
	case http.MethodPut:
		s.stats.put.Add(1)
		if etag, failed := s.take(r, bucket, key); failed != nil {
			s.refuse(w, failed)
		} else {
			s.answerETag(w, etag)
		}
	case http.MethodDelete:
		s.stats.control.Add(1)
		s.mu.Lock()
		delete(s.objects, bucket+"/"+key)
		s.mu.Unlock()
		s.pause()
		w.WriteHeader(http.StatusNoContent)
	default:
		s.refuse(w, notKnown)
	}
}

func (s *server) serveUpload(w http.ResponseWriter, r *http.Request, bucket, key string) {
	query := r.URL.Query()
	id := query.Get("uploadId")
	if r.Method == http.MethodPut && id != "" {
		s.uploadPart(w, r, id, query.Get("partNumber"))
		return
	}
	s.stats.control.Add(1)
	switch {
	case r.Method == http.MethodPost && query.Has("uploads"):
		s.createUpload(w, r, bucket, key)
	case r.Method == http.MethodPost && id != "":
		s.completeUpload(w, r, bucket, key, id)
	case r.Method == http.MethodGet && id != "":
		s.listParts(w, bucket, key, query)
	case r.Method == http.MethodDelete && id != "":
		if !s.uploads.abort(id) {
			s.refuse(w, noSuchUpload)
			return
		}
		s.pause()
		w.WriteHeader(http.StatusNoContent)
	default:
		s.refuse(w, notKnown)
	}
}

func (s *server) uploadPart(w http.ResponseWriter, r *http.Request, id, text string) {
	s.stats.uploadPart.Add(1)
	size := bodySize(r)
	number, err := strconv.Atoi(text)
	etag, failed := s.take(r, "", "")
	switch {
	case failed != nil:
		s.refuse(w, failed)
	case err != nil || !s.uploads.put(id, number, etag, size):
		s.refuse(w, noSuchUpload)
	default:
		s.answerETag(w, etag)
	}
}

// take reads a request's body and gives the ETag of what it holds.
func (s *server) take(r *http.Request, bucket, key string) (string, *failure) {
	size := bodySize(r)
	s.stats.bytesIn.Add(size)
	if size >= checkedBytes && bucket != storedBucket {
		if discard(r.Body) != nil {
			return "", incomplete
		}
		return s.content.etag(size), nil
	}
	body, failed := checked(r)
	if failed != nil {
		return "", failed
	}
	sum := md5.Sum(body)
	etag := hex.EncodeToString(sum[:])
	if bucket == storedBucket {
		s.store(bucket+"/"+key, object{size: int64(len(body)), etag: etag, body: body})
	}
	return etag, nil
}

func (s *server) store(name string, made object) {
	s.mu.Lock()
	s.objects[name] = made
	s.mu.Unlock()
}

func (s *server) find(bucket, key string) (object, *failure) {
	s.mu.RLock()
	found, known := s.objects[bucket+"/"+key]
	s.mu.RUnlock()
	switch {
	case known:
		return found, nil
	case bucket == storedBucket || strings.HasPrefix(key, missingPrefix):
		return object{}, noSuchKey
	default:
		size := sizeOf(key, s.size)
		return object{size: size, etag: s.content.etag(size)}, nil
	}
}

func (s *server) get(w http.ResponseWriter, r *http.Request, bucket, key string) {
	kind := &s.stats.get
	if r.Method == http.MethodHead {
		kind = &s.stats.head
	}
	kind.Add(1)
	found, failed := s.find(bucket, key)
	if failed == nil && !matches(r.Header.Get("If-Match"), found.etag) {
		failed = changed
	}
	offset, length, status := int64(0), found.size, http.StatusOK
	if asked := r.Header.Get("Range"); asked != "" && failed == nil {
		var ok bool
		if offset, length, ok = span(asked, found.size); !ok {
			failed = badRange
		}
		status = http.StatusPartialContent
	}
	if failed != nil {
		s.refuse(w, failed)
		return
	}
	headers := w.Header()
	headers["Etag"] = []string{quoted(found.etag)}
	headers["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	headers["Last-Modified"] = s.modified
	headers["Content-Type"] = octets
	headers["Accept-Ranges"] = []string{"bytes"}
	if status == http.StatusPartialContent {
		headers["Content-Range"] = []string{contentRange(offset, length, found.size)}
	}
	if found.crc != "" && r.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" {
		headers[crcHeader] = []string{found.crc}
		headers["X-Amz-Checksum-Type"] = []string{"FULL_OBJECT"}
	}
	s.pause()
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	s.stats.bytesOut.Add(length)
	if found.body != nil {
		_, _ = w.Write(found.body[offset : offset+length])
		return
	}
	// A client that leaves early is its own business.
	_ = s.content.write(w, offset, length)
}

func (s *server) pause() {
	if s.latency > 0 {
		time.Sleep(s.latency)
	}
}

func (s *server) answerETag(w http.ResponseWriter, etag string) {
	headers := w.Header()
	headers["Etag"] = []string{quoted(etag)}
	headers["Content-Length"] = []string{"0"}
	s.pause()
	w.WriteHeader(http.StatusOK)
}

func (s *server) answerXML(w http.ResponseWriter, value any) {
	text, err := xml.Marshal(value)
	if err != nil {
		s.refuse(w, &failure{http.StatusInternalServerError, "InternalError", err.Error()})
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	s.pause()
	_, _ = w.Write(append([]byte(xml.Header), text...))
}

func (s *server) refuse(w http.ResponseWriter, failed *failure) {
	s.stats.refused.Add(1)
	text, _ := xml.Marshal(struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: failed.code, Message: failed.message})
	w.Header().Set("Content-Type", "application/xml")
	s.pause()
	w.WriteHeader(failed.status)
	_, _ = w.Write(text)
}

func (s *server) answerStats(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]int64{
		"get": s.stats.get.Load(), "head": s.stats.head.Load(), "put": s.stats.put.Load(),
		"upload_part": s.stats.uploadPart.Load(), "control": s.stats.control.Load(),
		"refused": s.stats.refused.Load(), "bytes_out": s.stats.bytesOut.Load(), "bytes_in": s.stats.bytesIn.Load(),
	})
}

func matches(header, etag string) bool {
	return header == "" || header == "*" || strings.Trim(header, `"`) == etag
}

func contentRange(offset, length, size int64) string {
	return "bytes " + strconv.FormatInt(offset, 10) + "-" + strconv.FormatInt(offset+length-1, 10) + "/" + strconv.FormatInt(size, 10)
}

func quoted(etag string) string { return `"` + etag + `"` }
