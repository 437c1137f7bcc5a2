package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/authz/mtls/mtlstest"
	"github.com/weir-registry/weir/origin/origintest"
)

// Frames of HTTP/2 (RFC 9113, section 6).
const (
	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePing         = 6
	frameWindow       = 8
	frameContinuation = 9

	flagEndStream  = 1
	flagEndHeaders = 4

	settingMaxStreams    = 3
	settingWindow        = 4
	settingMaxHeaderList = 6
)

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// get is the header of GET https://localhost/.
func get() []byte { return request(0x82, "/") }

// request is the header of a request to https://localhost (RFC 7541: method is an entry of the
// static table, 0x82 is GET and 0x83 is POST; the others are literals that are not indexed).
func request(method byte, path string) []byte {
	b := append([]byte{method, 0x87, 0x04, byte(len(path))}, path...)
	return append(append(b, 0x01, byte(len("localhost"))), "localhost"...)
}

// rude is a connection that keeps to HTTP/2 as far as it wants.
type rude struct {
	*tls.Conn
	settings map[uint16]uint32
	frames   chan received // what comes, for as long as somebody takes it; closed at the end
}

// received is a frame that came.
type received struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

// beRude begins HTTP/2 with those settings on a connection.
func beRude(t testing.TB, conn *tls.Conn, settings []byte) *rude {
	t.Helper()
	r := &rude{conn, map[uint16]uint32{}, make(chan received)}
	// Beside what is sent: the server might wait for us, too.
	go func() {
		defer close(r.frames)
		for {
			var head [9]byte
			if _, err := io.ReadFull(conn, head[:]); err != nil {
				return
			}
			payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
			if _, err := io.ReadFull(conn, payload); err != nil {
				return
			}
			r.frames <- received{head[3], head[4], binary.BigEndian.Uint32(head[5:]), payload}
		}
	}()
	hello := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(frameSettings, 0, 0, settings)...)
	if _, err := conn.Write(hello); err != nil {
		t.Fatal(err)
	}
	first := <-r.frames
	if first.kind != frameSettings {
		t.Fatalf("%+v", first)
	}
	for payload := first.payload; len(payload) >= 6; payload = payload[6:] {
		r.settings[binary.BigEndian.Uint16(payload)] = binary.BigEndian.Uint32(payload[2:])
	}
	return r
}

// ended takes what comes until a stream has ended, or the connection, and gives how many bytes
// came of it, and whether that was all.
func (r *rude) ended(stream uint32) (body int, whole bool) {
	for f := range r.frames {
		if f.stream != stream {
			continue
		}
		if f.kind == frameData {
			body += len(f.payload)
		}
		if f.kind == frameReset {
			return body, false
		}
		if f.kind <= frameHeaders && f.flags&flagEndStream != 0 {
			return body, true
		}
	}
	return body, false
}

// take takes whatever comes.
func (r *rude) take() {
	for range r.frames {
	}
}

func (s *secured) rude() *rude {
	s.t.Helper()
	conn, err := tls.Dial("tcp", s.address, &tls.Config{RootCAs: s.servers.Pool(), ServerName: "localhost", NextProtos: []string{"h2"}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	r := beRude(s.t, conn, nil)
	go r.take()
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

// Who stands still is cut over HTTP/2 as well: the stream of who gives no byte, or makes no room
// for any, while others on the same connection are served; and the connection of who takes
// nothing from it, whatever comes on it. (C-2)
func TestWhoStandsStillIsCutOverHTTP2(t *testing.T) {
	const (
		upload  = "/v2/app/blobs/uploads/?digest=sha256:0000000000000000000000000000000000000000000000000000000000000000"
		small   = 1 << 16
		unbound = 1 << 30
		goodbye = 5 * time.Second // which crypto/tls gives itself to say that it closes
	)
	for name, x := range map[string]struct {
		window uint32 // of a stream
		sends  func(blob string) []byte
		takes  bool // what comes
		stream bool // is cut, and not the connection
		after  time.Duration
	}{
		"in an upload": {small, func(string) []byte {
			return append(frame(frameHeaders, flagEndHeaders, 1, request(0x83, upload)), frame(frameData, 0, 1, []byte("x"))...)
		}, true, true, time.Minute},
		"without room": {small, func(blob string) []byte {
			return frame(frameHeaders, flagEndStream|flagEndHeaders, 1, request(0x82, blob))
		}, true, true, time.Minute},
		"taking nothing": {unbound, func(blob string) []byte {
			return frame(frameHeaders, flagEndStream|flagEndHeaders, 1, request(0x82, blob))
		}, false, false, time.Minute + goodbye},
		// Of the time of a header net/http knows no limit here: the connection counts as idle.
		"in a header": {small, func(string) []byte { return frame(frameHeaders, flagEndStream, 1, get()) }, true, false, 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				authority, pair := mtlstest.NewAuthority(t, "servers"), mtlstest.NewFiles(t)
				pair.PutPair(t, authority.Issue(t, mtlstest.Server()))
				a, l := inMemory(t, fmt.Sprintf("server: {tls: {certificate: %q, key: %q}}\nauthz: {policy: {default: allow}}\n", pair.Certificate, pair.Key))
				blob := origintest.PushBlob(t, a.registry, "app", origintest.Bytes(1, 1<<20))
				conn := tls.Client(l.dial(), &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", NextProtos: []string{"h2"}})
				if err := conn.Handshake(); err != nil {
					t.Fatal(err)
				}
				r := beRude(t, conn, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, settingWindow), x.window))
				defer func() { _ = conn.NetConn().Close(); r.take() }()
				send := func(b []byte) error { _, err := r.Write(b); return err }
				room := frame(frameWindow, 0, 0, binary.BigEndian.AppendUint32(nil, unbound)) // of the connection
				begun := time.Now()
				if err := send(append(room, x.sends("/v2/app/blobs/"+blob.String())...)); err != nil {
					t.Fatal(err)
				}
				switch {
				case x.takes:
					if n, _ := r.ended(1); n > small {
						t.Errorf("%d bytes came for which there was no room", n)
					}
				default:
					for f := range r.frames {
						if f.kind == frameData {
							break
						}
					}
					for begun = time.Now(); send(frame(framePing, 0, 0, make([]byte, 8))) == nil; {
						time.Sleep(100 * time.Millisecond)
					}
				}
				if took := time.Since(begun); took < x.after || took > x.after+time.Second {
					t.Errorf("cut after %v, want %v", took, x.after)
				}
				if !x.stream {
					r.take() // until its end
				} else if err := send(frame(frameHeaders, flagEndStream|flagEndHeaders, 3, request(0x82, "/v2/"))); err != nil {
					t.Error(err)
				} else if _, whole := r.ended(3); !whole {
					t.Error("the next request on the connection is not answered")
				}
			})
		})
	}
}
