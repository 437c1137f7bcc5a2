//go:build clients || chaos

package conformance

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// network is a toxiproxy between weir and its upstream: what goes wrong on the way.
type network struct {
	proxy *toxiproxy.Proxy
	addr  string // where weir reaches the upstream through it
}

// startNetwork puts a network that does nothing wrong yet in front of an address.
func startNetwork(t *testing.T, upstream string) *network {
	t.Helper()
	return startNetworkAt(t, "127.0.0.1:0", upstream)
}

// startNetworkAt is startNetwork on an address where its clients know it already.
func startNetworkAt(t *testing.T, addr, upstream string) *network {
	t.Helper()
	// Its toxics speak to zerolog's own logger, whatever logger the server is given.
	zerolog.SetGlobalLevel(zerolog.Disabled)
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(server, "upstream", addr, upstream)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return &network{proxy: p, addr: p.Listen}
}

// toxic is one thing that goes wrong on the way from the upstream.
type toxic struct {
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Toxicity   float32        `json:"toxicity"` // share of the connections that have it
	Attributes map[string]any `json:"attributes"`
}

// poison adds a toxic, to the connections that stand too, and gives what takes it
// away again.
func (n *network) poison(t *testing.T, kind string, attributes map[string]any) (cure func()) {
	t.Helper()
	text, err := json.Marshal(toxic{Name: kind, Type: kind, Toxicity: 1, Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.proxy.Toxics.AddToxicJson(strings.NewReader(string(text))); err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	return func() {
		// Whoever ends the test also ends the context of the removal, which is about
		// links that hang: none may be left behind.
		if err := n.proxy.Toxics.RemoveToxic(context.Background(), kind); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// down cuts all connections and refuses new ones until up.
func (n *network) down() { n.proxy.Stop() }

// up lets connections in again, at the same address.
func (n *network) up(t *testing.T) {
	t.Helper()
	if err := n.proxy.Start(); err != nil {
		t.Fatalf("the network does not come up again: %v", err)
	}
}
