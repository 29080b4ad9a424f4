// Command nullserver is an S3 server that does as little as possible: every key exists and has the same
// bytes, and what is written is thrown away. A client measured against it is measured alone.
package main

import (
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"
)

// Bodies are constant, so nearly all garbage is headers: collect it rarely.
const gcPercent = 800

type settings struct {
	http, tls, ready, caBundle string
	size                       int64
	latency                    time.Duration
}

func main() {
	var s settings
	flag.StringVar(&s.http, "http", "", "address to serve HTTP on, for example 127.0.0.1:0")
	flag.StringVar(&s.tls, "tls", "", "address to serve HTTPS on")
	flag.StringVar(&s.ready, "ready", "", "file that gets the ports as JSON once the server listens")
	flag.StringVar(&s.caBundle, "ca_bundle", "", "file that gets the certificate (PEM) clients of --tls have to trust")
	flag.Int64Var(&s.size, "size", 100_000, "bytes of an object whose key does not end in @BYTES")
	flag.DurationVar(&s.latency, "latency", 0, "pause before the first byte of each answer")
	flag.Parse()
	if flag.NArg() > 0 || (s.http == "" && s.tls == "") || (s.tls != "" && s.caBundle == "") {
		fmt.Fprintln(os.Stderr, "nullserver: give --http ADDRESS, or --tls ADDRESS with --ca_bundle FILE, or both")
		os.Exit(2)
	}
	debug.SetGCPercent(gcPercent)
	log.Fatal(serve(s))
}

func serve(s settings) error {
	handler := newServer(s.size, s.latency)
	ports := map[string]int{}
	failed := make(chan error)
	start := func(name, address string, config *tls.Config) error {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		ports[name] = listener.Addr().(*net.TCPAddr).Port
		if config != nil {
			listener = tls.NewListener(listener, config)
		}
		go func() { failed <- (&http.Server{Handler: handler}).Serve(listener) }()
		return nil
	}
	if s.http != "" {
		if err := start("http", s.http, nil); err != nil {
			return err
		}
	}
	if s.tls != "" {
		config, err := newTLSConfig(s.caBundle)
		if err != nil {
			return err
		}
		if err := start("tls", s.tls, config); err != nil {
			return err
		}
	}
	if err := announce(s.ready, ports); err != nil {
		return err
	}
	return <-failed
}

// announce prints the ports and writes them to a file that appears whole.
func announce(path string, ports map[string]int) error {
	text, err := json.Marshal(ports)
	if err != nil {
		return err
	}
	fmt.Println(string(text))
	if path == "" {
		return nil
	}
	if err := os.WriteFile(path+".part", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}
