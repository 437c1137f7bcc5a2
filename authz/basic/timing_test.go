//go:build !race

package basic

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// S-9: 2,000 logins each of somebody known and of somebody unknown, by turns, take as
// long: Welch's t below 4.5, or means that differ by less than 1 %. The hashes are smaller
// than real ones, so that what is beside them shows. Not under the race detector, which
// makes it a test of the race detector.
func TestUnknownTakesAsLong(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const logins = 2000
	h := hashed(t, "$argon2id$v=19$m=512,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	var users []User
	for i := range 20 {
		users = append(users, User{fmt.Sprint("user", i), h})
	}
	b, err := New(Options{Users: people(users...)})
	if err != nil {
		t.Fatal(err)
	}
	var took [2][]float64 // known, unknown
	for i := range 2 * logins {
		name := fmt.Sprint([]string{"user", "none"}[i%2], i/2%20)
		r := request(name, fmt.Sprint("wrong", i), home)
		began := time.Now()
		_, _ = b.Authenticate(r)
		took[i%2] = append(took[i%2], float64(time.Since(began)))
	}
	m0, v0 := moments(took[0])
	m1, v1 := moments(took[1])
	welch := (m0 - m1) / math.Sqrt(v0/logins+v1/logins)
	gap := math.Abs(m0-m1) / m0
	t.Logf("known %v, unknown %v: t = %.2f, means differ by %.2f %%", time.Duration(m0), time.Duration(m1), welch, 100*gap)
	if math.Abs(welch) >= 4.5 && gap >= 0.01 {
		t.Errorf("they can be told apart")
	}
}

func moments(x []float64) (mean, variance float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		variance += (v - mean) * (v - mean) / float64(len(x)-1)
	}
	return mean, variance
}
