package token_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/token"
)

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// signed is a token of header and claims with the signature of a key for HMAC.
func signed(header, claims, key string) string {
	body := encode([]byte(header)) + "." + encode([]byte(claims))
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(body))
	return body + "." + encode(h.Sum(nil))
}

func part(t testing.TB, token string, i int) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[i])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// with gives JSON with some members set; nil takes one out.
func with(t testing.TB, text string, members map[string]any) string {
	t.Helper()
	m := map[string]any{}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	for k, v := range members {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// badTokens are tokens that nobody issued, made of one that was, which key signed as
// HMAC; elsewhere is a server that none of them may lead to.
func badTokens(t testing.TB, good, refresh, elsewhere string) map[string]string {
	t.Helper()
	header, claims := part(t, good, 0), part(t, good, 1)
	parts := strings.Split(good, ".")
	bad := map[string]string{
		"empty":                    "",
		"a dot":                    ".",
		"two dots":                 "..",
		"a word":                   "opaque",
		"no signature":             parts[0] + "." + parts[1],
		"an empty signature":       parts[0] + "." + parts[1] + ".",
		"no claims":                parts[0] + ".." + parts[2],
		"no header":                "." + parts[1] + "." + parts[2],
		"a fourth part":            good + ".",
		"five parts, as JWE":       good + "." + parts[1] + "." + parts[2],
		"its end cut":              good[:len(good)-1],
		"more at its end":          good + "A",
		"padded":                   good + "=",
		"a blank behind":           good + " ",
		"a blank before":           " " + good,
		"a line end in it":         parts[0] + "." + parts[1][:8] + "\n" + parts[1][8:] + "." + parts[2],
		"a line end in the end":    good + "\n",
		"NUL":                      good + "\x00",
		"other base64":             strings.ReplaceAll(strings.ReplaceAll(signed(header, claims, "other key other key other key other"), "-", "+"), "_", "/") + "+",
		"JSON serialization":       `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"a refresh token":          refresh,
		"a refresh token's header": strings.Split(refresh, ".")[0] + "." + parts[1] + "." + parts[2],
		"a refresh token's claims": parts[0] + "." + strings.Split(refresh, ".")[1] + "." + parts[2],
		"longer than 16 KiB":       signed(header, with(t, claims, map[string]any{"x": strings.Repeat("a", token.MaxToken)}), secret),
		"1 MiB":                    strings.Repeat("a", 1<<20),
		"1 MiB of dots":            strings.Repeat(".", 1<<20),
		"another key":              signed(header, claims, "other key other key other key other"),
		"no key":                   signed(header, claims, ""),
		"the realm as key":         signed(header, claims, "weir"),
		"bits that no byte has":    flipUnused(good),
	}
	for i := range 3 { // a bit of each part
		p := slices.Clone(parts)
		b := []byte(part(t, good, i))
		b[len(b)/2] ^= 1
		p[i] = encode(b)
		bad[fmt.Sprintf("a bit of part %d", i)] = strings.Join(p, ".")
	}
	// Headers, all with a good signature.
	const own = "own-key own-key own-key own-key own-key"
	jwk := map[string]any{"kty": "oct", "k": encode([]byte(own)), "alg": "HS256"}
	for name, members := range map[string]map[string]any{
		"alg none":           {"alg": "none"},
		"alg None":           {"alg": "None"},
		"alg empty":          {"alg": ""},
		"no alg":             {"alg": nil},
		"alg null":           {"alg": json.RawMessage("null")},
		"alg a list":         {"alg": []string{"HS256"}},
		"alg of lower case":  {"alg": "hs256"},
		"alg HS384":          {"alg": "HS384"},
		"alg HS512":          {"alg": "HS512"},
		"alg RS256":          {"alg": "RS256"},
		"alg ES256":          {"alg": "ES256"},
		"alg EdDSA":          {"alg": "EdDSA"},
		"alg PS256":          {"alg": "PS256"},
		"alg dir":            {"alg": "dir", "enc": "A256GCM"},
		"no typ":             {"typ": nil},
		"typ JWT":            {"typ": "JWT"},
		"typ at+jwt":         {"typ": "at+jwt"},
		"typ of other case":  {"typ": "WEIR-ACCESS+JWT"},
		"typ of the refresh": {"typ": "weir-refresh+jwt"},
		"kid":                {"kid": "1"},
		"kid a path":         {"kid": "../../../../dev/null"},
		"kid SQL":            {"kid": "' UNION SELECT '"},
		"jwk":                {"jwk": jwk},
		"jwk and kid":        {"jwk": jwk, "kid": "1"},
		"jku":                {"jku": elsewhere + "/jwks", "kid": "1"},
		"x5u":                {"x5u": elsewhere + "/cert"},
		"x5c":                {"x5c": []string{"MIIB"}},
		"x5t":                {"x5t": "AAAA"},
		"crit":               {"crit": []string{"exp"}, "exp": 1},
		"crit, empty":        {"crit": []string{}},
		"crit b64":           {"crit": []string{"b64"}, "b64": false},
		"b64":                {"b64": true},
		"cty":                {"cty": "JWT"},
		"zip":                {"zip": "DEF"},
		"more":               {"x": 1},
		"nonce":              {"nonce": "1"},
	} {
		h := with(t, header, members)
		bad["header: "+name] = signed(h, claims, secret)
		bad["header: "+name+", own key"] = signed(h, claims, own)
		bad["header: "+name+", unsigned"] = encode([]byte(h)) + "." + parts[1] + "."
	}
	for name, h := range map[string]string{
		"a blank":      strings.Replace(header, ":", ": ", 1),
		"twice":        strings.Replace(header, "{", `{"alg":"none",`, 1),
		"twice, after": strings.Replace(header, "}", `,"alg":"none"}`, 1),
		"a list":       "[" + header + "]",
		"a string":     `"HS256"`,
		"no JSON":      "alg=HS256",
		"nothing":      "{}",
		"more JSON":    header + header,
		"UTF-16":       "\xff\xfe{",
		"turned":       `{"typ":"weir-access+jwt","alg":"HS256"}`,
	} {
		bad["header: "+name] = signed(h, claims, secret)
	}
	// Claims, all with a good signature: only who has the key can make them.
	for name, members := range map[string]map[string]any{
		"another issuer":    {"iss": "other"},
		"no issuer":         {"iss": nil},
		"another audience":  {"aud": "other"},
		"no audience":       {"aud": nil},
		"audiences":         {"aud": []string{"weir", "other"}},
		"no expiry":         {"exp": nil},
		"expiry 0":          {"exp": 0},
		"expiry before":     {"exp": time.Now().Unix() - 1},
		"expiry now":        {"exp": time.Now().Unix()},
		"expiry negative":   {"exp": -1},
		"expiry a text":     {"exp": "9999999999"},
		"expiry too large":  {"exp": 1e30},
		"expiry null":       {"exp": json.RawMessage("null")},
		"no access":         {"access": nil},
		"access null":       {"access": json.RawMessage("null")},
		"access a text":     {"access": "*"},
		"nobody, with name": {"sub": ""},
		"no subject":        {"sub": nil},
		"no identity":       {"weir": nil},
		"subject a number":  {"sub": 1},
	} {
		bad["claims: "+name] = signed(header, with(t, claims, members), secret)
	}
	for name, c := range map[string]string{"nothing": "", "null": "null", "a list": "[]", "an empty object": "{}", "cut": claims[:len(claims)-1], "two": claims + claims} {
		bad["claims: "+name] = signed(header, c, secret)
	}
	return bad
}

// flipUnused sets a bit at the end of a token which no byte of the signature has.
func flipUnused(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(token) - 1
	return token[:last] + string(alphabet[strings.IndexByte(alphabet, token[last])|1])
}

// S-7: none of them is accepted, and nobody is asked about them.
func TestBadTokens(t *testing.T) {
	var fetches atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fetches.Add(1) }))
	defer elsewhere.Close()

	i := issuer(t)
	issued, err := i.Issue(t.Context(), somebody(), pullOf("team/app"))
	if err != nil {
		t.Fatal(err)
	}
	good := issued.Token
	bad := badTokens(t, good, refreshOf(t, i), elsewhere.URL)
	if len(bad) < 60 {
		t.Fatalf("only %d", len(bad))
	}
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		for _, issuer := range []*token.Issuer{i, token.New("weir", time.Hour, fixed(t, secret))} {
			if who, err := issuer.Authenticate(bearer(bad[name])); !errors.Is(err, authz.ErrNone) || who.Authenticated() || who.Method != "" {
				t.Errorf("%s: %+v, %v", name, who, err)
			}
		}
	}
	// What was made anew is what was issued: the table is about what it says.
	if again := signed(part(t, good, 0), part(t, good, 1), secret); again != good {
		t.Errorf("the table signs\n%s, not\n%s", again, good)
	}
	if _, err := i.Authenticate(bearer(good)); err != nil {
		t.Errorf("the good one: %v", err)
	}
	if n := fetches.Load(); n > 0 {
		t.Errorf("%d fetches", n)
	}
	t.Logf("%d bad tokens", len(bad))
}

// trust.md 1a, CVE-2025-24976: a key in the token's own header is no key, though its kid
// were a known one. For keys of each kind, also where the public key is known.
func TestCVE202524976(t *testing.T) {
	var fetches atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fetches.Add(1) }))
	defer elsewhere.Close()
	for kind, key := range keys(t) {
		t.Run(kind, func(t *testing.T) {
			i := token.New("weir", time.Hour, fixed(t, key))
			issued, err := i.Issue(t.Context(), somebody(), pullOf("team/app"))
			if err != nil {
				t.Fatal(err)
			}
			header := part(t, issued.Token, 0)
			var h struct{ Alg, Typ string }
			if err := json.Unmarshal([]byte(header), &h); err != nil {
				t.Fatal(err)
			}
			own := []byte("own key own key own key own key own")
			signer := func(o *jose.SignerOptions) string {
				t.Helper()
				s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: own}, o.WithType(jose.ContentType(h.Typ)))
				if err != nil {
					t.Fatal(err)
				}
				j, err := s.Sign([]byte(part(t, issued.Token, 1)))
				if err != nil {
					t.Fatal(err)
				}
				text, err := j.CompactSerialize()
				if err != nil {
					t.Fatal(err)
				}
				return text
			}
			for name, text := range map[string]string{
				"jwk":  signer((&jose.SignerOptions{}).WithHeader("jwk", jose.JSONWebKey{Key: own, KeyID: "1"}).WithHeader("kid", "1")),
				"jku":  signer((&jose.SignerOptions{}).WithHeader("jku", elsewhere.URL).WithHeader("kid", "1")),
				"x5u":  signer((&jose.SignerOptions{}).WithHeader("x5u", elsewhere.URL).WithHeader("kid", "1")),
				"x5c":  signer((&jose.SignerOptions{}).WithHeader("x5c", []string{"MIIB"}).WithHeader("kid", "1")),
				"bare": signer(&jose.SignerOptions{}),
				// The header of ours, and for the signature what everybody may know.
				"the key's text as the key for HMAC": signed(`{"alg":"HS256","typ":"`+h.Typ+`"}`, part(t, issued.Token, 1), key+"\n"),
				"own key below our header":           signed(header, part(t, issued.Token, 1), string(own)),
			} {
				if who, err := i.Authenticate(bearer(text)); !errors.Is(err, authz.ErrNone) || who.Authenticated() {
					t.Errorf("%s: %+v, %v", name, who, err)
				}
			}
			if _, err := i.Authenticate(bearer(issued.Token)); err != nil {
				t.Error(err)
			}
		})
	}
	if n := fetches.Load(); n > 0 {
		t.Errorf("%d fetches", n)
	}
}

func TestNoBearer(t *testing.T) {
	i := issuer(t)
	issued, err := i.Issue(t.Context(), somebody(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, headers := range map[string][]string{
		"none":             nil,
		"empty":            {""},
		"no scheme":        {issued.Token},
		"another scheme":   {"Basic " + issued.Token},
		"two":              {"Bearer " + issued.Token, "Bearer " + issued.Token},
		"with another one": {"Basic Og==", "Bearer " + issued.Token},
		"a list":           {"Bearer " + issued.Token + ", Basic Og=="},
		"parameters":       {"Bearer token=" + issued.Token},
	} {
		r := httptest.NewRequest("GET", "/v2/?access_token="+issued.Token, nil)
		r.Header["Authorization"] = headers
		if who, err := i.Authenticate(r); !errors.Is(err, authz.ErrNone) || who.Authenticated() {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.Header.Set("Authorization", "bEARER "+issued.Token)
	if _, err := i.Authenticate(r); err != nil {
		t.Errorf("any case: %v", err)
	}
}

// FuzzToken: nothing is accepted but what was issued.
func FuzzToken(f *testing.F) {
	i := issuer(f)
	issued, err := i.Issue(f.Context(), somebody(), pullOf("team/app"))
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range badTokens(f, issued.Token, refreshOf(f, i), "http://127.0.0.1:1") {
		if len(text) < 4<<10 {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		who, err := i.Authenticate(bearer(text))
		if err == nil && text != issued.Token {
			t.Errorf("%q is %+v", text, who)
		} else if err != nil && !errors.Is(err, authz.ErrNone) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// FuzzHeader: no header but one is accepted below a good signature.
func FuzzHeader(f *testing.F) {
	i := issuer(f)
	issued, err := i.Issue(f.Context(), somebody(), pullOf("team/app"))
	if err != nil {
		f.Fatal(err)
	}
	good, claims := part(f, issued.Token, 0), part(f, issued.Token, 1)
	for _, text := range []string{good, `{"alg":"none"}`, `{"alg":"HS256","typ":"weir-access+jwt","kid":"1"}`, `{"alg":"HS256","alg":"none","typ":"weir-access+jwt"}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, header string) {
		who, err := i.Authenticate(bearer(signed(header, claims, secret)))
		if (err == nil) != (header == good) {
			t.Errorf("%q is %+v, %v", header, who, err)
		}
	})
}
