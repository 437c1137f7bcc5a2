package authz

import (
	"crypto/sha256"
	"encoding/binary"
)

// Plain is the identity as rules and webhooks see it: texts, lists and maps, and
// nothing else. certificate and oidc are there for those who have one. A Scope is not
// in it: it bounds what a decision may be used for, and is no part of one.
func (i Identity) Plain() map[string]any {
	m := map[string]any{
		"authenticated": i.Authenticated(),
		"id":            i.ID,
		"username":      i.Username,
		"groups":        texts(i.Groups),
		"client_ip":     i.Client.Address(),
		"method":        string(i.Method),
	}
	if i.Method == "" {
		m["method"] = string(MethodNone)
	}
	if c := i.Certificate; c != nil {
		m["certificate"] = map[string]any{
			"common_name":   c.CommonName,
			"organizations": texts(c.Organizations),
			"dns_names":     texts(c.DNSNames),
			"uris":          texts(c.URIs),
		}
	}
	if o := i.OIDC; o != nil {
		claims := o.Claims
		if claims == nil {
			claims = map[string]any{}
		}
		m["oidc"] = map[string]any{"provider": o.Provider, "subject": o.Subject, "claims": claims}
	}
	return m
}

// Address is the address as text; "" where none can be believed.
func (c Client) Address() string {
	if !c.IP.IsValid() {
		return ""
	}
	return c.IP.Unmap().String()
}

// Plain is the access as rules and webhooks see it: texts, a number and a time.
// media_type and size are there where they are known.
func (a Access) Plain() map[string]any {
	m := map[string]any{
		"action":        string(a.Action),
		"operation":     a.Operation,
		"repository":    a.Repository,
		"upstream":      a.Upstream,
		"tag":           a.Tag,
		"digest":        a.Digest,
		"from":          a.From,
		"artifact_type": a.ArtifactType,
		"time":          a.Time,
	}
	if a.MediaType != "" {
		m["media_type"] = a.MediaType
	}
	if a.Size != 0 {
		m["size"] = a.Size
	}
	return m
}

func texts(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// Key tells apart all identities that a decision could tell apart: it is of all of one
// but its Scope.
type Key struct {
	id, username string
	method       Method
	client       Client
	// rest is the sum of all else that there may be of somebody; zero: there is nothing.
	rest [sha256.Size]byte
}

// Len is how many bytes of texts a Key keeps.
func (k Key) Len() int { return len(k.id) + len(k.username) }

// Key gives the Key of an identity. ok is false where there is none, since a claim is no
// JSON.
func (i Identity) Key() (key Key, ok bool) {
	key = Key{id: i.ID, username: i.Username, method: i.Method, client: i.Client}
	if len(i.Groups) == 0 && i.Certificate == nil && i.OIDC == nil {
		return key, true // of most who have a password, and of nobody, nothing is to be summed
	}
	b := make([]byte, 0, 512)
	add := func(texts ...string) {
		b = binary.AppendUvarint(b, uint64(len(texts)))
		for _, s := range texts {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	}
	add(i.Groups...)
	if c := i.Certificate; c != nil {
		add("certificate", c.CommonName)
		add(c.Organizations...)
		add(c.DNSNames...)
		add(c.URIs...)
	}
	if o := i.OIDC; o != nil {
		claims, ok := o.Sum()
		if !ok {
			return key, false
		}
		add("oidc", o.Provider, o.Subject, string(claims[:]))
	}
	key.rest = sha256.Sum256(b)
	return key, true
}
