package oidc

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// badTokens gives tokens that no provider may accept, by what is wrong with them. own
// is the provider that they are made for; others share its kids, subjects and audience,
// but not its keys.
func badTokens(own *provider, others []*provider, keys map[string]signingKeys) map[string]string {
	k := keys[own.url]
	c := good(own.url)
	now := c["iat"].(float64)
	h := claims{"kid": "1"}
	rs := func(header, change claims) string { return sign(jose.RS256, k.rsa, header, with(c, change)) }
	pass := sign(jose.RS256, k.rsa, h, c)
	parts := strings.Split(pass, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	evil := someKeys() // whose public half nobody publishes
	evilJWK := public("1", &evil.rsa2.PublicKey)
	der := x509.MarshalPKCS1PublicKey(&k.rsa.PublicKey)
	pkix, err := x509.MarshalPKIXPublicKey(&k.rsa.PublicKey)
	if err != nil {
		panic(err)
	}
	hs := func(alg string, secret []byte) string {
		unsigned := b64([]byte(`{"alg":"`+alg+`","kid":"1"}`)) + "." + parts[1]
		mac := hmac.New(sha256.New, secret)
		if alg == "HS512" {
			mac = hmac.New(sha512.New, secret)
		}
		mac.Write([]byte(unsigned))
		return unsigned + "." + b64(mac.Sum(nil))
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		panic(err)
	}
	flipped := slices.Clone(signature)
	flipped[17] ^= 1

	bad := map[string]string{
		// Of how it is signed.
		"alg none":                raw(`{"alg":"none","kid":"1"}`, encode(c), nil) + "AA",
		"alg none, no signature":  b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"alg None":                raw(`{"alg":"None","kid":"1"}`, encode(c), []byte{1}),
		"alg nOnE with a good":    raw(`{"alg":"nOnE","kid":"1"}`, encode(c), signature),
		"no alg":                  raw(`{"kid":"1"}`, encode(c), signature),
		"alg that is no text":     raw(`{"alg":["RS256"],"kid":"1"}`, encode(c), signature),
		"alg twice":               raw(`{"alg":"none","alg":"RS256","kid":"1"}`, encode(c), signature),
		"HS256 by the PEM":        hs("HS256", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})),
		"HS256 by the DER":        hs("HS256", pkix),
		"HS256 by PKCS 1":         hs("HS256", der),
		"HS512 by the modulus":    hs("HS512", k.rsa.N.Bytes()),
		"HS256 by the audience":   hs("HS256", []byte("weir")),
		"HS256 by nothing":        hs("HS256", nil),
		"RS512, not listed":       sign(jose.RS512, k.rsa, h, c),
		"PS256, not listed":       sign(jose.PS256, k.rsa, h, c),
		"ES256, not listed":       sign(jose.ES256, k.ec, claims{"kid": "ec"}, c),
		"RS256 said, ES256 done":  raw(`{"alg":"RS256","kid":"ec"}`, encode(c), []byte("0123456789012345678901234567890123456789012345678901234567890123")),
		"a weak key":              sign(jose.RS256, k.weak, claims{"kid": "weak"}, c),
		"a key for encryption":    sign(jose.RS256, k.rsa2, claims{"kid": "enc"}, c),
		"a key for another alg":   sign(jose.RS256, k.rsa2, claims{"kid": "ps"}, c),
		"another key, same kid":   sign(jose.RS256, evil.rsa2, h, c),
		"another key of the set":  sign(jose.RS256, k.rsa, claims{"kid": "2"}, c),
		"an unknown kid":          sign(jose.RS256, k.rsa, claims{"kid": "7"}, c),
		"a kid that is a path":    sign(jose.RS256, k.rsa, claims{"kid": "../../etc/passwd"}, c),
		"an empty kid":            raw(`{"alg":"RS256","kid":""}`, encode(c), signature),
		"a kid that is no text":   raw(`{"alg":"RS256","kid":1}`, encode(c), signature),
		"no kid, many keys":       rs(nil, nil),
		"another signature":       parts[0] + "." + parts[1] + "." + b64(flipped),
		"no signature":            parts[0] + "." + parts[1] + ".",
		"half a signature":        parts[0] + "." + parts[1] + "." + b64(signature[:128]),
		"an empty signature byte": parts[0] + "." + parts[1] + ".AA",
		// Keys that it brings along.
		"jwk":              sign(jose.RS256, evil.rsa2, claims{"kid": "1", "jwk": evilJWK}, c),
		"jwk and no kid":   sign(jose.RS256, evil.rsa2, claims{"jwk": evilJWK}, c),
		"jku":              sign(jose.RS256, evil.rsa2, claims{"kid": "1", "jku": "https://evil.example/jwks"}, c),
		"jku of the set":   sign(jose.RS256, evil.rsa2, claims{"kid": "evil", "jku": own.url + "/jwks"}, c),
		"x5u":              sign(jose.RS256, evil.rsa2, claims{"kid": "1", "x5u": "https://evil.example/cert"}, c),
		"x5c":              sign(jose.RS256, evil.rsa2, claims{"kid": "1", "x5c": []string{base64.StdEncoding.EncodeToString(der)}}, c),
		"all of them":      sign(jose.RS256, evil.rsa2, claims{"kid": "evil", "jwk": evilJWK, "jku": "https://evil.example/", "x5u": "https://evil.example/"}, c),
		"crit":             sign(jose.RS256, k.rsa, claims{"kid": "1", "crit": []string{"exp"}, "exp": 1}, c),
		"crit and nothing": sign(jose.RS256, k.rsa, claims{"kid": "1", "crit": []string{"b64"}}, c),
		"b64 not critical": sign(jose.RS256, k.rsa, claims{"kid": "1", "b64": true}, c),
		// Of another kind.
		"a logout token":         rs(claims{"kid": "1", "typ": "logout+jwt"}, nil),
		"a logout token without": rs(h, claims{"events": claims{"http://schemas.openid.net/event/backchannel-logout": claims{}}}),
		"a security event":       rs(claims{"kid": "1", "typ": "secevent+jwt"}, nil),
		"a proof of possession":  rs(claims{"kid": "1", "typ": "dpop+jwt"}, nil),
		"typ that is no text":    raw(`{"alg":"RS256","kid":"1","typ":{}}`, encode(c), signature),
		"payload of another one": parts[0] + "." + b64([]byte(encode(with(c, claims{"sub": "root"})))) + "." + parts[2],
		"a token in a token":     rs(claims{"kid": "1", "cty": "JWT", "typ": "JWE"}, nil),
		"encrypted":              parts[0] + "." + parts[1] + "." + parts[2] + ".AA.AA",
		"JSON serialization":     `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"a blank in it":          parts[0] + " ." + parts[1] + "." + parts[2],
		"a line end after it":    pass + "\n",
		"padding":                pass + "=",
		"a dot more":             pass + ".",
		"a dot before":           "." + pass,
		"twice":                  pass + "." + pass,
		"only dots":              strings.Repeat(".", 8<<10),
		"larger than 16 KiB":     rs(h, claims{"x": strings.Repeat("a", 13<<10)}),
		"standard base64":        strings.NewReplacer("-", "+", "_", "/").Replace(pass[:len(pass)-1]) + "+",
		"nested deeply":          signText(jose.RS256, k.rsa, h, strings.TrimSuffix(encode(c), "}")+`,"x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+"}"),
		"not an object":          signText(jose.RS256, k.rsa, h, `["`+own.url+`"]`),
		"not JSON":               signText(jose.RS256, k.rsa, h, encode(c)+"x"),
		"not UTF-8":              signText(jose.RS256, k.rsa, h, strings.Replace(encode(with(c, claims{"x": "ann"})), `"x":"ann`, "\"x\":\"ann\xff", 1)),
		"two objects":            signText(jose.RS256, k.rsa, h, encode(c)+encode(c)),
		"nothing":                signText(jose.RS256, k.rsa, h, " "),
		// Of what it says.
		"iss twice":              signText(jose.RS256, k.rsa, h, `{"iss":"https://evil.example",`+encode(c)[1:]),
		"sub twice":              signText(jose.RS256, k.rsa, h, `{"sub":"root",`+encode(c)[1:]),
		"aud in capitals too":    rs(h, claims{"aud": "other", "AUD": "weir"}),
		"aud in capitals":        rs(h, claims{"aud": nil, "Aud": "weir"}),
		"sub in capitals":        rs(h, claims{"sub": nil, "Sub": "ann"}),
		"exp in capitals":        rs(h, claims{"exp": nil, "EXP": now + 300}),
		"a long s":               rs(h, claims{"sub": nil, "ſub": "ann"}),
		"no aud":                 rs(h, claims{"aud": nil}),
		"aud null":               rs(h, claims{"aud": (*int)(nil)}),
		"an empty aud":           rs(h, claims{"aud": []string{}}),
		"another aud":            rs(h, claims{"aud": "weir2"}),
		"aud and a slash":        rs(h, claims{"aud": "weir/"}),
		"aud in other case":      rs(h, claims{"aud": "WEIR"}),
		"aud that is one of":     rs(h, claims{"aud": "weir other"}),
		"auds without":           rs(h, claims{"aud": []string{"a", "b"}}),
		"aud as an object":       rs(h, claims{"aud": claims{"weir": true}}),
		"auds of auds":           rs(h, claims{"aud": []any{[]string{"weir"}}}),
		"azp instead of aud":     rs(h, claims{"aud": "other", "azp": "weir", "client_id": "weir"}),
		"no sub":                 rs(h, claims{"sub": nil}),
		"an empty sub":           rs(h, claims{"sub": ""}),
		"sub null":               rs(h, claims{"sub": (*int)(nil)}),
		"sub a number":           rs(h, claims{"sub": 7}),
		"sub a list":             rs(h, claims{"sub": []string{"ann"}}),
		"sub with a line end":    rs(h, claims{"sub": "ann\nroot"}),
		"sub with NUL":           rs(h, claims{"sub": "ann\x00"}),
		"sub half a surrogate":   signText(jose.RS256, k.rsa, h, strings.Replace(encode(c), `"ann"`, `"\ud800"`, 1)),
		"no exp":                 rs(h, claims{"exp": nil}),
		"expired":                rs(h, claims{"exp": now - 61}),
		"expired long ago":       rs(h, claims{"exp": 1}),
		"exp negative":           rs(h, claims{"exp": -1e18}),
		"exp a text":             rs(h, claims{"exp": "9999999999"}),
		"exp null":               rs(h, claims{"exp": (*int)(nil)}),
		"nbf to come":            rs(h, claims{"nbf": now + 3600}),
		"nbf far":                rs(h, claims{"nbf": 1e18}),
		"nbf a text":             rs(h, claims{"nbf": "0"}),
		"iat to come":            rs(h, claims{"iat": now + 3600}),
		"iat a list":             rs(h, claims{"iat": []int{0}}),
		"groups that are none":   rs(h, claims{"groups": 7}),
		"no issuer":              rs(h, claims{"iss": nil}),
		"issuer and a slash":     rs(h, claims{"iss": own.url + "/"}),
		"issuer in other case":   rs(h, claims{"iss": strings.Replace(own.url, "op", "OP", 1)}),
		"issuer over http":       rs(h, claims{"iss": strings.Replace(own.url, "https", "http", 1)}),
		"issuer with a port":     rs(h, claims{"iss": own.url + ":443"}),
		"issuer and a blank":     rs(h, claims{"iss": own.url + " "}),
		"issuer and user":        rs(h, claims{"iss": strings.Replace(own.url, "://", "://evil@", 1)}),
		"issuers":                rs(h, claims{"iss": []string{own.url}}),
		"an issuer below":        rs(h, claims{"iss": own.url + "/realm"}),
		"an issuer nobody knows": rs(h, claims{"iss": "https://evil.example"}),
		"another issuer's name":  rs(h, claims{"iss": "corp"}),
	}
	for _, other := range others {
		// Signed by one, and naming another, of which all but the key is alike.
		bad["issuer "+other.url] = rs(h, claims{"iss": other.url})
		bad["issuer without a kid "+other.url] = rs(nil, claims{"iss": other.url})
		bad["issuers "+other.url] = rs(h, claims{"iss": []string{own.url, other.url}})
		bad["signed by "+other.url] = sign(jose.RS256, keys[other.url].rsa, h, c)
		bad["with the jwk of "+other.url] = sign(jose.RS256, keys[other.url].rsa, claims{"kid": "1", "jwk": public("1", &keys[other.url].rsa.PublicKey)}, c)
		bad["with the jku of "+other.url] = sign(jose.RS256, keys[other.url].rsa, claims{"kid": "1", "jku": other.url + "/jwks"}, c)
	}
	return bad
}

// trust.md's S-7: whatever is wrong with a token, none of three providers that share
// kids, subjects, audience and names of groups accepts it, and nobody is asked but
// the providers for their own documents.
func TestBadTokens(t *testing.T) {
	urls := []string{"https://op.example", "https://op.example.com", "https://op.example/tenant"}
	keys := map[string]signingKeys{}
	var providers []*provider
	var options []Provider
	for i, url := range urls {
		k := makeKeys()
		keys[url] = k
		enc, ps := public("enc", &k.rsa2.PublicKey), public("ps", &k.rsa2.PublicKey)
		enc.Use, ps.Algorithm = "enc", "PS256"
		p := newProvider(url, public("1", &k.rsa.PublicKey), public("2", &k.rsa2.PublicKey), public("ec", &k.ec.PublicKey),
			public("weak", &k.weak.PublicKey), enc, ps, jose.JSONWebKey{Key: []byte("a secret of 32 bytes, or nearly."), KeyID: "oct"})
		providers = append(providers, p)
		options = append(options, of(p, []string{"corp", "cloud", "tenant"}[i]))
	}
	a := newAuthenticator(t, nil, options...)
	cells := 0
	for i, own := range providers {
		others := slices.Delete(slices.Clone(providers), i, i+1)
		fine := sign(jose.RS256, keys[own.url].rsa, claims{"kid": "1"}, good(own.url))
		who, err := a.Authenticate(bearer(fine))
		if want := "oidc:" + options[i].Name + ":ann"; err != nil || who.ID != want {
			t.Fatalf("a good token is for %q: %v", who.ID, err)
		}
		bad := badTokens(own, others, keys)
		if len(bad) < 60 {
			t.Fatalf("only %d bad tokens", len(bad))
		}
		for _, name := range slices.Sorted(maps.Keys(bad)) {
			for _, r := range []string{"bearer", "basic"} {
				request := bearer(bad[name])
				if r == "basic" {
					request = password("ann", bad[name])
				}
				cells++
				who, err := a.Authenticate(request)
				if got := outcome(err); got != "refused" && got != "none" || who.Authenticated() {
					t.Errorf("%s, %s, %s: for %q, %s", options[i].Name, r, name, who.ID, got)
				}
			}
		}
	}
	for _, p := range providers {
		if got, want := p.requests(), "/.well-known/openid-configuration /jwks"; got != want {
			t.Errorf("%s was asked for %q, want %q", p.url, got, want)
		}
	}
	t.Logf("%d tries, none accepted", cells)
}

// CVE-2025-24976 (distribution): a key in the header of a token is not looked at; one
// that is signed well counts whatever else is there.
func TestHeaderKeysAreIgnored(t *testing.T) {
	k := someKeys()
	p := newProvider("https://op.example", public("1", &k.rsa.PublicKey))
	a := newAuthenticator(t, nil, of(p, "corp"))
	header := claims{"kid": "1", "jwk": public("1", &k.rsa2.PublicKey), "jku": "https://evil.example/jwks", "x5u": "https://evil.example/x5u"}
	if _, err := a.Authenticate(bearer(sign(jose.RS256, k.rsa2, header, good(p.url)))); outcome(err) != "refused" {
		t.Error("signed by the header's key:", err)
	}
	if _, err := a.Authenticate(bearer(sign(jose.RS256, k.rsa, header, good(p.url)))); err != nil {
		t.Error("signed by the provider's:", err)
	}
	for _, kid := range []any{"", 1, []string{"1"}, nil} {
		if _, err := a.Authenticate(bearer(sign(jose.RS256, k.rsa, claims{"kid": kid}, good(p.url)))); outcome(err) != "refused" && outcome(err) != "none" {
			t.Errorf("kid %v: %v", kid, err)
		}
	}
	if got, want := p.requests(), "/.well-known/openid-configuration /jwks"; got != want {
		t.Errorf("asked for %q, want %q", got, want)
	}
}

// CVE-2025-27144 and CVE-2026-34986 (go-jose), CVE-2025-30204 (golang-jwt),
// CVE-2025-22868 (x/oauth2): what is no token costs next to nothing.
func TestWhatIsNoTokenIsCheap(t *testing.T) {
	a := newAuthenticator(t, nil, of(newProvider("https://op.example"), "corp"))
	for name, token := range map[string]string{
		"dots":          strings.Repeat(".", 8<<10),
		"a MiB":         strings.Repeat("a", 1<<20),
		"a MiB of dots": strings.Repeat("a.", 1<<19),
		"encrypted":     strings.Repeat("YWFh", 1<<10) + ".a.a.a.a",
		"nested":        raw(`{"alg":"RS256"}`, `{"iss":"https://op.example","a":`+strings.Repeat("[", 11<<10), []byte{1}),
		"nested header": raw(strings.Repeat(`{"a":`, 2000), `{"iss":"https://op.example"}`, []byte{1}),
	} {
		for as, r := range map[string]*http.Request{"bearer": bearer(token), "basic": password("ann", token)} {
			const runs = 50
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range runs {
				if _, err := a.Authenticate(r); err == nil {
					t.Errorf("%s, %s: accepted", name, as)
				}
			}
			runtime.ReadMemStats(&after)
			if bytes := (after.TotalAlloc - before.TotalAlloc) / runs; bytes > 64<<10 {
				t.Errorf("%s, %s: %d bytes", name, as, bytes)
			}
		}
	}
}
