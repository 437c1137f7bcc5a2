package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	attackers = 2000
	floodTime = 30 * time.Second
	// refusedTime is for as many clients with tokens that nobody accepts, which cost
	// nothing to refuse: what they take is the connections' share, and that of the
	// program which has them all, on the same machine.
	refusedTime = 15 * time.Second
	// pullEvery is how often each of pullers asks for a manifest, half of them with a
	// token: a load beside which the machine has time for the rest.
	pullEvery = 20 * time.Millisecond
	pullers   = 8
	// people log in one after the other in the course of the flood, each for the first time.
	people = 5
)

func floodRows() []row {
	return []row{{
		name: "flood", work: fmt.Sprintf("%d clients with wrong passwords for %s, who come again a second after a 503", attackers, floodTime),
		servers: []string{weir},
		measures: []measure{
			{name: "RSS of as many refused tokens", unit: "MB"},
			{name: "more RSS", unit: "MB", goals: []goal{atMost(134)}}, // 128 MiB
			{name: "pulls beside refused tokens", unit: "ms p99"},
			{name: "pulls beside passwords", unit: "× that", goals: []goal{atMost(3)}},
			{name: "slowest login", unit: "s", goals: []goal{atMost(5)}},
			{name: "wrong passwords", unit: "req/s"},
		},
		run: flood,
	}}
}

// floodConfig has people with passwords, and lets everybody do everything.
func floodConfig(p place) string {
	var users []string
	for n := range people {
		users = append(users, fmt.Sprintf("{name: %s%d, hash: %q}", rightsUser, n, rightsHash))
	}
	return weirConfig(p) + fmt.Sprintf("authz:\n  policy: {default: allow}\n  basic: {users: [{name: %s, hash: %q}, %s]}\n",
		rightsUser, rightsHash, strings.Join(users, ", "))
}

func flood(ctx context.Context, t *trial) (values, error) {
	i, err := t.data.image(0, 64*kB, 4)
	if err != nil {
		return nil, err
	}
	t.config = floodConfig
	if err := t.filled(ctx, "app", "v1", i); err != nil {
		return nil, err
	}
	addr := t.running.addr
	authorization, err := token(ctx, addr, "repository:app:pull")
	if err != nil {
		return nil, err
	}
	idle, err := readUsage(t.running.pid)
	if err != nil {
		return nil, err
	}
	refused, err := t.assail(ctx, authorization, refusedTime, 0, func(n, try int) (string, bool) {
		return fmt.Sprintf("Bearer %d.%d.x", n, try), true
	})
	if err != nil {
		return nil, err
	}
	flooded, err := t.assail(ctx, authorization, floodTime, people, wrongPassword)
	if err != nil {
		return nil, err
	}
	p99 := percentile(refused.pulls, 99)
	return values{
		"RSS of as many refused tokens": number(float64(refused.peak-idle.rss) / mB),
		"more RSS":                      number(float64(flooded.peak-refused.peak) / mB),
		"pulls beside refused tokens":   milliseconds(p99),
		"pulls beside passwords":        number(float64(percentile(flooded.pulls, 99)) / float64(p99)),
		"slowest login":                 number(flooded.login.Seconds()),
		"wrong passwords":               number(float64(flooded.asked) / floodTime.Seconds()),
	}, nil
}

// wrongPassword is what an attacker shows: half of all in the name of somebody who is
// there, each time another password.
func wrongPassword(n, try int) (authorization string, rest bool) {
	name := rightsUser
	if n%2 == 0 {
		name = fmt.Sprint("nobody", n)
	}
	return basicAuthorization(name, fmt.Sprint("wrong-", n, "-", try)), false
}

func basicAuthorization(name, password string) string {
	req := http.Request{Header: http.Header{}}
	req.SetBasicAuth(name, password)
	return req.Header.Get("Authorization")
}

// assault is what became of everybody else, and of the server, meanwhile.
type assault struct {
	peak  int64 // bytes
	pulls []time.Duration
	login time.Duration // the longest
	asked int64         // by attackers
}

// assail has the attackers show what show gives for some time, others pull, and so many
// people log in. rest says that an attacker waits a second after any answer, and not
// just after a 503.
func (t *trial) assail(
	ctx context.Context, authorization string, d time.Duration, people int, show func(n, try int) (authorization string, rest bool),
) (assault, error) {
	var (
		a     assault
		asked atomic.Int64
		addr  = t.running.addr
		until = time.Now().Add(d)
	)
	spent, err := t.clock(ctx, func(ctx context.Context) error {
		all, ctx := errgroup.WithContext(ctx)
		for n := range attackers {
			all.Go(func() error { return attack(ctx, addr, n, until, show, &asked) })
		}
		all.Go(func() (err error) {
			a.pulls, err = pullNow(ctx, addr, authorization, until)
			return err
		})
		all.Go(func() error {
			for n := range people {
				if err := pause(ctx, d/time.Duration(people+1)); err != nil {
					return err
				}
				took, err := logIn(ctx, addr, fmt.Sprint(rightsUser, n))
				if err != nil {
					return err
				}
				a.login = max(a.login, took)
			}
			return nil
		})
		return all.Wait()
	})
	a.peak, a.asked = spent.peak, asked.Load()
	return a, err
}

// percentile gives what so many of 100 do not exceed.
func percentile(all []time.Duration, p int) time.Duration {
	slices.Sort(all)
	return all[len(all)*p/100]
}

// attack shows one thing after the other over one connection until then.
func attack(ctx context.Context, addr string, n int, until time.Time, show func(n, try int) (string, bool), asked *atomic.Int64) error {
	c, err := dialLine(ctx, addr, until)
	if err != nil {
		return err
	}
	defer c.Close()
	for try := 0; time.Now().Before(until); try++ {
		authorization, rest := show(n, try)
		status, err := c.get("/v2/app/manifests/v1", authorization)
		switch {
		case err != nil:
			return err
		case status != http.StatusUnauthorized && status != http.StatusServiceUnavailable:
			return fmt.Errorf("an attacker is answered with %d", status)
		}
		asked.Add(1)
		if rest || status == http.StatusServiceUnavailable {
			if err := pause(ctx, time.Second); err != nil {
				return err
			}
		}
	}
	return nil
}

// logIn gives how long it takes to log in, for who comes again when they are told to.
func logIn(ctx context.Context, addr, name string) (time.Duration, error) {
	began := time.Now()
	for {
		c, err := dialLine(ctx, addr, began.Add(time.Minute))
		if err != nil {
			return 0, err
		}
		status, err := c.get("/token?service=weir", basicAuthorization(name, rightsPassword))
		_ = c.Close() // nothing more is asked
		switch {
		case err != nil:
			return 0, err
		case status == http.StatusOK:
			return time.Since(began), nil
		case status != http.StatusServiceUnavailable:
			return 0, fmt.Errorf("the right password is answered with %d", status)
		}
		if err := pause(ctx, time.Second); err != nil {
			return 0, err
		}
	}
}

// pullNow asks for a manifest now and then until then, by a token and by nobody in turn,
// and gives how long each took.
func pullNow(ctx context.Context, addr, authorization string, until time.Time) ([]time.Duration, error) {
	took := make([][]time.Duration, pullers)
	all, ctx := errgroup.WithContext(ctx)
	for n := range pullers {
		all.Go(func() error {
			c, err := dialLine(ctx, addr, until)
			if err != nil {
				return err
			}
			defer c.Close()
			who := ""
			if n%2 == 0 {
				who = authorization
			}
			for time.Now().Before(until) {
				began := time.Now()
				status, err := c.get("/v2/app/manifests/v1", who)
				if err != nil || status != http.StatusOK {
					return fmt.Errorf("a pull beside: %d, %w", status, err)
				}
				took[n] = append(took[n], time.Since(began))
				if err := pause(ctx, pullEvery); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := all.Wait()
	return slices.Concat(took...), err
}

// A line is one connection of HTTP/1.1, on which little is done for each request: 2,000
// clients of net/http would take more of the machine than the server.
type line struct {
	net.Conn
	in *bufio.Reader
}

// dialLine connects. Nothing is waited for much longer than until then.
func dialLine(ctx context.Context, addr string, until time.Time) (*line, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(until.Add(20 * time.Second)); err != nil {
		_ = conn.Close() // it was not used
		return nil, err
	}
	return &line{conn, bufio.NewReaderSize(conn, 1<<10)}, nil
}

// get gives the status of an answer, of which no more is looked at.
func (l *line) get(path, authorization string) (int, error) {
	text := "GET " + path + " HTTP/1.1\r\nHost: " + l.RemoteAddr().String() + "\r\n"
	if authorization != "" {
		text += "Authorization: " + authorization + "\r\n"
	}
	if _, err := io.WriteString(l, text+"\r\n"); err != nil {
		return 0, err
	}
	res, err := http.ReadResponse(l.in, nil)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}
