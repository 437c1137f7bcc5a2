package oidc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"
)

const (
	// largest is how long a token may be. Entra's with 200 groups has 8 KiB.
	largest = 16 << 10
	// largestHeader is how long an Authorization header may be that is looked into: a
	// token as a password, in base64, with a user name.
	largestHeader = largest*4/3 + 4<<10
	// deepest is how deep claims may be nested. Keycloak's are by 3.
	deepest = 32
)

var errMalformed = errors.New("not a token")

// tokenOf gives what may be a token in a request: Bearer's, or Basic's password.
func tokenOf(r *http.Request) (string, bool) {
	all := r.Header["Authorization"]
	if len(all) != 1 || len(all[0]) > largestHeader {
		return "", false
	}
	scheme, text, _ := strings.Cut(all[0], " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		text = strings.TrimLeft(text, " ")
	case strings.EqualFold(scheme, "Basic"):
		_, text, _ = r.BasicAuth()
	default:
		return "", false
	}
	return text, shaped(text)
}

// shaped reports whether s could be a JWS in its compact form (RFC 7515, 7.1): three
// parts of base64url. An encrypted token has five.
func shaped(s string) bool {
	if len(s) > largest {
		return false
	}
	dots, last := 0, -1
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.' && dots < 2 && i > last+1:
			dots, last = dots+1, i
		default:
			return false
		}
	}
	return dots == 2 && len(s) > last+1
}

// token is what a token says. Nothing of it is verified.
type token struct {
	text    string
	payload []byte
	header  map[string]any
	claims  map[string]any
	issuer  string
}

// parse reads a token that is shaped as one. Errors: errMalformed.
func parse(text string) (*token, error) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, errMalformed
	}
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		return nil, errMalformed
	}
	t := &token{text: text}
	if t.payload, err = base64.RawURLEncoding.DecodeString(parts[1]); err != nil {
		return nil, errMalformed
	}
	if t.header, err = object(header); err != nil {
		return nil, err
	}
	if t.claims, err = object(t.payload); err != nil {
		return nil, err
	}
	t.issuer, _ = t.claims["iss"].(string)
	return t, nil
}

// signer gives the key that a token says it is signed by, and how. The keys that its
// header brings along (jwk, jku, x5c, x5u) are not looked at. Errors: it is no token
// that says who somebody is.
func (t *token) signer() (kid, alg string, err error) {
	alg, _ = t.header["alg"].(string)
	said, there := t.header["kid"]
	if kid, _ = said.(string); there && kid == "" {
		return "", "", errors.New("its kid is no name")
	}
	// What must be understood is not: no extension of JWS is (RFC 7515, 4.1.11).
	for _, name := range []string{"crit", "b64"} {
		if _, there := t.header[name]; there {
			return "", "", fmt.Errorf("its header has %s", name)
		}
	}
	if _, event := t.claims["events"]; event || !kind(t.header["typ"]) {
		return "", "", errors.New("it is of another kind")
	}
	return kid, alg, nil
}

// kind reports whether a token with that typ says who somebody is. A provider signs
// others with the same keys: logout tokens and security events, which have the claim
// events too (RFC 8417), and proofs of possession (RFC 8725, 3.11).
func kind(typ any) bool {
	if typ == nil {
		return true
	}
	s, _ := typ.(string)
	s = strings.ToLower(s)
	switch strings.TrimPrefix(s, "application/") {
	case "jwt", "at+jwt":
		return true
	}
	return false
}

// depth is how deep brackets are nested in a JSON text, at most.
func depth(text []byte) int {
	now, most, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			now++
			most = max(most, now)
		case c == ']' || c == '}':
			now--
		}
	}
	return most
}

// object reads a JSON object in the one way that it can be read: it is UTF-8, and no
// name is in it twice (RFC 7519, 4). Errors: errMalformed.
func object(text []byte) (map[string]any, error) {
	if !utf8.Valid(text) || depth(text) > deepest {
		return nil, errMalformed
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errMalformed
	}
	members := map[string]any{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, errMalformed
		}
		name, _ := t.(string) // a name of an object is one
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("%w: %.40q is in it twice", errMalformed, name)
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return nil, errMalformed
		}
		members[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, errMalformed
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errMalformed
	}
	return members, nil
}
