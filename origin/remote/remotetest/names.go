package remotetest

import (
	"context"
	"encoding/binary"
	"io"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
)

// Names is a name server that knows what the test says, and nothing else.
type Names struct {
	mu    sync.Mutex
	names map[string][]string
}

// NewNames makes one. Each look-up of a name gives the next of its texts, of IPv4
// addresses between blanks, the last one for ever; a text without any is a name
// without addresses.
func NewNames(names map[string][]string) *Names { return &Names{names: maps.Clone(names)} }

// Resolver asks it.
func (n *Names) Resolver() *net.Resolver { return &net.Resolver{PreferGo: true, Dial: n.dial} }

// dial is a connection to the name server (RFC 1035, over a stream).
func (n *Names) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		for {
			var size uint16
			if binary.Read(server, binary.BigEndian, &size) != nil {
				return
			}
			query := make([]byte, size)
			if _, err := io.ReadFull(server, query); err != nil {
				return
			}
			answer := n.answer(query)
			if _, err := server.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
				return
			}
		}
	}()
	return client, nil
}

// answer answers a query for one name.
func (n *Names) answer(query []byte) []byte {
	var labels []string
	at := 12
	for query[at] != 0 {
		end := at + 1 + int(query[at])
		labels = append(labels, string(query[at+1:end]))
		at = end
	}
	question := query[12 : at+5]
	isA := binary.BigEndian.Uint16(query[at+1:]) == 1
	n.mu.Lock()
	defer n.mu.Unlock()
	name := strings.ToLower(strings.Join(labels, "."))
	turns, known := n.names[name]
	flags, addresses := uint16(0x8180), []string(nil)
	switch {
	case !known:
		flags |= 3 // no such name
	case isA:
		addresses = strings.Fields(turns[0])
		if len(turns) > 1 {
			n.names[name] = turns[1:]
		}
	}
	b := append([]byte{}, query[:2]...)
	for _, v := range []uint16{flags, 1, uint16(len(addresses)), 0, 0} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	b = append(b, question...)
	for _, a := range addresses {
		b = append(b, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		four := netip.MustParseAddr(a).As4()
		b = append(b, four[:]...)
	}
	return b
}
