package acr

import (
	"encoding/base64"
	"testing"
	"time"
)

// Whatever a token says of its end, it is kept for some time and for no longer than
// a day.
func FuzzLapses(f *testing.F) {
	for _, claims := range []string{`{"exp":1000010000}`, `{"exp":1}`, `{"exp":9223372036854775807}`, `{"exp":"x"}`, `{`, ``} {
		f.Add("a." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".b")
	}
	f.Add("..")
	f.Add("not one")
	asked := time.Unix(1_000_000_000, 0)
	f.Fuzz(func(t *testing.T, token string) {
		if life := lapses(token, asked).Sub(asked); life <= 0 || life > 24*time.Hour {
			t.Errorf("%q lives %s", token, life)
		}
	})
}
