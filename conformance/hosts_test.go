//go:build clients

package conformance

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// host is a machine of its own, as far as its network goes: a network namespace that
// no other program of this machine sees. Its name lives in the /run of these tests,
// and ends with them.
type host struct {
	name string
	ns   *os.File
}

func newHost(t *testing.T, name string) *host {
	t.Helper()
	run(t, nil, "ip", "netns", "add", name)
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			t.Errorf("ip netns del %s: %v: %s", name, err, out)
		}
	})
	ns, err := os.Open(filepath.Join("/run/netns", name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() }) // nothing was written
	h := &host{name: name, ns: ns}
	h.ip(t, "link", "set", "lo", "up")
	return h
}

// ip is ip(8) on this host.
func (h *host) ip(t *testing.T, args ...string) {
	t.Helper()
	run(t, nil, append([]string{"ip", "-n", h.name}, args...)...)
}

// plug connects two hosts: each end is an interface called by the other's name. No
// end is ever in the machine's own namespace.
func plug(t *testing.T, a, b *host) {
	t.Helper()
	run(t, nil, "ip", "link", "add", b.name, "netns", a.name, "type", "veth", "peer", "name", a.name, "netns", b.name)
	a.ip(t, "link", "set", b.name, "up")
	b.ip(t, "link", "set", a.name, "up")
}

// address gives the interface that leads to another host an address.
func (h *host) address(t *testing.T, to *host, prefix string) {
	t.Helper()
	h.ip(t, "addr", "add", prefix, "dev", to.name)
}

// newSwitch makes a host that is a bridge.
func newSwitch(t *testing.T, name string) *host {
	t.Helper()
	h := newHost(t, name)
	h.ip(t, "link", "add", "bridge", "type", "bridge")
	h.ip(t, "link", "set", "bridge", "up")
	return h
}

// join plugs a host into a switch.
func (h *host) join(t *testing.T, to *host, prefix string) {
	t.Helper()
	plug(t, h, to)
	h.address(t, to, prefix)
	to.ip(t, "link", "set", h.name, "master", "bridge")
}

// on runs do on this host: what do itself opens, listens on or starts belongs there;
// what it leaves to other goroutines does not.
func (h *host) on(do func()) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() { _ = home.Close() }() // nothing was written
	if err := enter(h.ns); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter %s: %w", h.name, err)
	}
	defer func() {
		if err := enter(home); err != nil {
			panic(fmt.Sprintf("no way back from %s: %v", h.name, err)) // this thread would be of use to nobody
		}
		runtime.UnlockOSThread()
	}()
	do()
	return nil
}

// must is on for what cannot fail but by the test's own fault.
func (h *host) must(t *testing.T, do func()) {
	t.Helper()
	if err := h.on(do); err != nil {
		t.Fatal(err)
	}
}

// enter moves the calling thread into a network namespace: setns(2), whose number
// package syscall does not know everywhere.
func enter(ns *os.File) error {
	number := map[string]uintptr{"amd64": 308, "arm64": 268}[runtime.GOARCH]
	if number == 0 {
		return syscall.ENOSYS
	}
	if _, _, errno := syscall.RawSyscall(number, ns.Fd(), syscall.CLONE_NEWNET, 0); errno != 0 {
		return errno
	}
	return nil
}

// client makes a client that asks from this host, over connections of its own.
func (h *host) client(t *testing.T) *http.Client {
	transport := &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
			// An address needs no resolver, which would be another goroutine.
			if onErr := h.on(func() { c, err = new(net.Dialer).DialContext(ctx, network, addr) }); onErr != nil {
				return nil, onErr
			}
			return c, err
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// traffic gives how many bytes came in from another host and went out to it, headers
// of Ethernet, IP and TCP included.
func (h *host) traffic(t *testing.T, to *host) (in, out int64) {
	t.Helper()
	var text []byte
	var err error
	h.must(t, func() { text, err = os.ReadFile("/proc/thread-self/net/dev") })
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		// proc(5): eight columns of what was received, then as many of what was sent.
		name, numbers, _ := strings.Cut(strings.TrimSpace(line), ":")
		f := strings.Fields(numbers)
		if name != to.name || len(f) < 9 {
			continue
		}
		in, err = strconv.ParseInt(f[0], 10, 64)
		if err == nil {
			out, err = strconv.ParseInt(f[8], 10, 64)
		}
		if err != nil {
			t.Fatal(err)
		}
		return in, out
	}
	t.Fatalf("%s has no interface to %s:\n%s", h.name, to.name, text)
	return 0, 0
}
