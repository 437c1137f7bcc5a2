package doctor

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
)

// Options say whom to examine.
type Options struct {
	Server *url.URL       // without a path
	Out    *egress.Client // the way to Server
	Login  login.Provider // whoever is logged in to it
	Image  Image          // zero: one that the server lists, else a small one of docker.io
}

// Image is an image that is pulled.
type Image struct {
	Host string // the registry that it is of; "": the server's own
	Repo origin.Repo
	Ref  origin.Ref
}

// String gives its name as people write it.
func (i Image) String() string {
	name := i.Repo.String()
	if i.Host != "" {
		name = i.Host + "/" + name
	}
	if i.Ref.Digest() != "" {
		return name + "@" + i.Ref.String()
	}
	return name + ":" + i.Ref.String()
}

// Report is what was found.
type Report struct {
	Server  string   `json:"server"`
	Image   string   `json:"image"`
	Chosen  bool     `json:"chosen"` // nobody named the image
	Clients []Client `json:"clients"`
}

// Broken counts the checks that a client would break on, and all of them.
func (r *Report) Broken() (broken, all int) {
	for _, c := range r.Clients {
		for _, check := range c.Checks {
			all++
			if check.State == Breaks {
				broken++
			}
		}
	}
	return broken, all
}

// Client is what one client would make of the server.
type Client struct {
	Name   string  `json:"name"`
	Checks []Check `json:"checks"`
}

// Check is one thing that was tried.
type Check struct {
	Name    string `json:"name"`
	State   State  `json:"state"`
	Request string `json:"request,omitempty"`
	Answer  string `json:"answer"`
	// Effect is what the client makes of it, and Hint how to mend it; "" where all is well.
	Effect string `json:"effect,omitempty"`
	Hint   string `json:"hint,omitempty"`
}

// State is how a check went.
type State string

// The states of a check.
const (
	OK     State = "ok"
	Note   State = "note"
	Breaks State = "would break"
)

// Examine asks the server as each client would. Errors: ctx's; that the server does
// not answer at all.
func Examine(ctx context.Context, o Options) (*Report, error) {
	r := &Report{Server: o.Server.String()}
	general, err := connect(ctx, o)
	if err != nil {
		return nil, err
	}
	r.Clients = append(r.Clients, general)
	if r.Chosen = o.Image.Repo.IsZero(); r.Chosen {
		if o.Image, err = choose(ctx, o); err != nil {
			return nil, err
		}
	}
	o.Image = clientsName(o.Image, o.Server)
	r.Image = o.Image.String()
	for _, c := range clients {
		s := newSession(o, c)
		s.examine(ctx)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r.Clients = append(r.Clients, Client{Name: c.name, Checks: s.checks})
	}
	return r, nil
}

// connect checks what does not depend on the client.
func connect(ctx context.Context, o Options) (Client, error) {
	c := Client{Name: "every client"}
	ping := *o.Server
	ping.Path = "/v2/"
	a, err := o.Out.Send(ctx, egress.Request{URL: &ping}, noSecret)
	if err != nil {
		return c, fmt.Errorf("no answer from %s: %w", o.Server, err)
	}
	a.Discard()
	request := http.MethodGet + " " + a.At.RequestURI()
	if a.ProtoAtLeast(1, 1) {
		c.Checks = append(c.Checks, Check{Name: "connection", State: OK, Request: request, Answer: a.Proto})
	} else {
		c.Checks = append(c.Checks, Check{
			Name: "connection", State: Note, Request: request, Answer: a.Proto,
			Effect: "connects anew for each request; a layer without Content-Length that is cut looks as if it were whole",
			Hint:   "speak HTTP/1.1; in nginx that is proxy_http_version 1.1 towards the registry",
		})
	}
	if o.Server.Scheme == "http" && !loopback(o.Server.Hostname()) {
		c.Checks = append(c.Checks, Check{
			Name: "encryption", State: Note, Request: request, Answer: "plain HTTP, beyond loopback",
			Effect: "is refused by Docker and podman until they are told that the server is insecure; anybody on the way reads along",
			Hint:   "have a certificate; or insecure-registries (Docker), insecure = true (podman), as weir client writes them",
		})
	}
	return c, nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
