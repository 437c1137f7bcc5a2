package fanout

import "time"

// choice is which endpoints are asked, in which order, and the worst of what those
// have said that are not.
type choice struct {
	list    []*endpoint
	worst   error
	insists bool // they are asked although they are shut
}

// all chooses among all endpoints: those that may be asked now.
func (f *Fanout) all() choice {
	var c choice
	var last []*endpoint
	for _, e := range f.endpoints {
		switch why := e.shut(); {
		case why != nil:
			c.worst = worse(c.worst, why)
		case e.askedLast():
			last = append(last, e)
		default:
			c.list = append(c.list, e)
		}
	}
	c.list = append(c.list, last...)
	return c
}

// Down gives why the upstream cannot be asked now (an origin.UpstreamError); nil: some
// endpoint may be.
func (f *Fanout) Down() error {
	c := f.all()
	if len(c.list) > 0 {
		return nil
	}
	return c.worst
}

// Thrift is by how much a check that costs a request should be put off, as the budget
// of the endpoint falls that it would be asked of: 1 to 8.
func (f *Fanout) Thrift() int {
	if list := f.all().list; len(list) > 0 {
		return list[0].Limits.thrift()
	}
	return 1
}

// Status describes an endpoint.
type Status struct {
	Host         string
	Up           bool          // it answers, as far as is known; if not, it is left out or asked last
	Latency      time.Duration // mean time to an answer; 0: none came yet
	LimitedUntil time.Time     // it is left alone until then; zero: it is not
	Limit        int           // requests that it lets through in a window; -1: it did not say
	Remaining    int           // of these; -1: it did not say
}

// Endpoints describes the endpoints, in order of preference.
func (f *Fanout) Endpoints() []Status {
	list := make([]Status, 0, len(f.endpoints))
	for _, e := range f.endpoints {
		list = append(list, e.status())
	}
	return list
}

func (e *endpoint) status() Status {
	s := Status{Host: e.Host, Limit: -1, Remaining: -1}
	e.mu.Lock()
	s.Up, s.Latency = e.outage == nil, e.latency
	e.mu.Unlock()
	l := e.Limits
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.until) {
		s.LimitedUntil = l.until
	}
	if l.known && time.Since(l.told) < l.window {
		s.Limit, s.Remaining = l.limit, l.remaining
	}
	return s
}
