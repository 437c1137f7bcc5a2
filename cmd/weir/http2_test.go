package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/authz/mtls/mtlstest"
)

// Frames of HTTP/2 (RFC 9113, section 6).
const (
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	frameContinuation = 9

	flagEndStream  = 1
	flagEndHeaders = 4

	settingMaxStreams    = 3
	settingMaxHeaderList = 6
)

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// get is the header of GET https://localhost/ (RFC 7541: entries of the static table,
// and a literal that is not indexed).
func get() []byte {
	return append([]byte{0x82, 0x87, 0x84, 0x01, byte(len("localhost"))}, "localhost"...)
}

// rude is a connection that keeps to HTTP/2 as far as it wants.
type rude struct {
	*tls.Conn
	settings map[uint16]uint32
}

func (s *secured) rude() *rude {
	s.t.Helper()
	conn, err := tls.Dial("tcp", s.address, &tls.Config{RootCAs: s.servers.Pool(), ServerName: "localhost", NextProtos: []string{"h2"}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	hello := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(frameSettings, 0, 0, nil)...)
	if _, err := conn.Write(hello); err != nil {
		s.t.Fatal(err)
	}
	r := &rude{conn, map[uint16]uint32{}}
	var head [9]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil || head[3] != frameSettings {
		s.t.Fatalf("%x, %v", head, err)
	}
	payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
	if _, err := io.ReadFull(conn, payload); err != nil {
		s.t.Fatal(err)
	}
	for ; len(payload) >= 6; payload = payload[6:] {
		r.settings[binary.BigEndian.Uint16(payload)] = binary.BigEndian.Uint32(payload[2:])
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }() // else the server would wait for us
	return r
}

// S-14: connections that reset each stream at once, and one whose header never ends,
// are cut or served; those who ask beside them notice nothing.
func TestHTTP2Floods(t *testing.T) {
	s := startTLS(t, "optional", "")
	if got := s.rude().settings; got[settingMaxStreams] != maxStreams || got[settingMaxHeaderList] > 2*maxHeader {
		t.Errorf("settings are %v", got)
	}
	var floods, healthy sync.WaitGroup
	over := make(chan struct{})
	asked := 0
	healthy.Go(func() {
		c := s.client(true, false)
		for {
			select {
			case <-over:
				return
			default:
			}
			if resp, _, err := s.do(c, http.MethodGet, "/v2/", nil); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("beside the floods: %v, %v", resp, err)
				return
			}
			asked++
		}
	})
	for range 5 {
		floods.Go(func() { // 50,000 streams of rapid reset: CVE-2023-44487
			r := s.rude()
			w := bufio.NewWriterSize(r, 16<<10)
			for i := range uint32(10000) {
				stream := 2*i + 1
				_, err := w.Write(append(
					frame(frameHeaders, flagEndStream|flagEndHeaders, stream, get()),
					frame(frameReset, 0, stream, []byte{0, 0, 0, 8})...))
				if err != nil {
					return // cut
				}
			}
			_ = w.Flush()
		})
	}
	floods.Go(func() { // CONTINUATION: CVE-2023-45288
		r := s.rude()
		_, _ = r.Write(frame(frameHeaders, flagEndStream, 1, get()))
		field := append([]byte{0x00, 1, 'x', 0x7f, 0x80 | (4000-127)&0x7f, (4000 - 127) >> 7}, make([]byte, 4000)...)
		for i := range field[6:] {
			field[6+i] = 'y'
		}
		sent := 0
		for range 10000 {
			n, err := r.Write(frame(frameContinuation, 0, 1, field))
			sent += n
			if err != nil {
				return // cut
			}
		}
		t.Errorf("%d bytes of one header were taken", sent)
	})
	floods.Wait()
	close(over)
	healthy.Wait()
	if asked == 0 {
		t.Error("nobody was served")
	}
	t.Logf("%d requests beside the floods", asked)
	if resp, _, err := s.do(s.client(true, false, s.clients.Issue(t, mtlstest.Client("ann"))), http.MethodGet, "/v2/", nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("after the floods: %v, %v", resp, err)
	}
}
