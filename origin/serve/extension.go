package serve

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"github.com/weir-registry/weir/origin"
)

// Extension is one address below /v2/_ext/: what GET is answered there, as JSON.
type Extension struct {
	// Params are the parameters that it takes, each once.
	Params []string
	// Paged says that it takes n and last, too, and that its answers are pages.
	Paged bool
	// Answer gives what is encoded. next is what the next page comes after; "" where
	// there is none. Its errors are those of a registry.
	Answer func(ctx context.Context, q Question) (answer any, next string, err error)
}

// Question is what an Extension is asked.
type Question struct {
	params url.Values
	Page   origin.Page // of one that is Paged
}

// Get gives a parameter; "" if it is absent.
func (q Question) Get(param string) string { return q.params.Get(param) }

// maxLast is the longest last of an extension, in bytes. What it names is another thing for
// each: the longest is a repository and a digest.
const maxLast = 1 << 10

// question reads what an extension is asked. A parameter that it does not know is refused:
// whoever filters by it would take the whole for a part.
func (x Extension) question(values url.Values) (Question, error) {
	q, asked := query(values), Question{params: values}
	for name := range values {
		if _, err := q.one(name); err != nil {
			return asked, err
		}
		if paging := name == "n" || name == "last"; !slices.Contains(x.Params, name) && (!paging || !x.Paged) {
			return asked, badQuery("parameter %s is not known here", origin.Quote(name))
		}
	}
	if !x.Paged {
		return asked, nil
	}
	var err error
	if asked.Page.N, err = parseN(values.Get("n")); err != nil {
		return asked, err
	}
	if asked.Page.After = values.Get("last"); len(asked.Page.After) > maxLast {
		return asked, badQuery("last is longer than %d bytes", maxLast)
	}
	return asked, nil
}

// extension answers one of Options.Ext.
func (s *server) extension(w http.ResponseWriter, r *http.Request, c Call) error {
	if c.Extension == FillExtension {
		return s.sendFill(w, r, c)
	}
	x, ok := s.ext[c.Extension]
	if !ok {
		return noSuchResource()
	}
	q, err := x.question(c.Query)
	if err != nil {
		return err
	}
	answer, next, err := x.Answer(r.Context(), q)
	if err != nil {
		return err
	}
	u := c.target("_ext", c.Extension)
	u.RawQuery = c.Query.Encode()
	setNext(w.Header(), u, q.Page, "", next)
	return s.marshal(w, r, "application/json", answer)
}
