//go:build clients

package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/authz/mtls/mtlstest"
)

// login is somebody, in the ways in which clients let people say who they are.
type login struct {
	user, password string // "": none
	shown          *mtlstest.Pair
}

// refused is what clients say when they are: their words for 401, 403, and the end of a
// handshake.
var refused = regexp.MustCompile(`(?i)unauthorized|authentication required|denied|forbidden|401|403|certificate|invalid username/password`)

// TestClientsLogin: every client logs in as it does elsewhere, by a password, by a token
// of an OpenID Connect provider in the place of one, and by a certificate; then it pulls
// and pushes. Who is wrong is told so when they log in, and nobody gets anything.
func TestClientsLogin(t *testing.T) {
	dir := workDir(t)
	env := []string{"HOME=" + dir + "/home", "NO_PROXY=127.0.0.0/8", "no_proxy=127.0.0.0/8", "SSL_CERT_FILE=" + dir + "/ca.crt"}
	policy := write(t, filepath.Join(dir, "policy.json"), `{"default": [{"type": "insecureAcceptAnything"}]}`)
	crane, oras := tool(t, "crane"), tool(t, "oras")
	servers, clients, files := mtlstest.NewAuthority(t, "servers"), mtlstest.NewAuthority(t, "clients"), mtlstest.NewFiles(t)
	files.PutPair(t, servers.Issue(t, mtlstest.Server()))
	mtlstest.Put(t, files.ClientCA, clients.CertificatePEM())
	write(t, filepath.Join(dir, "ca.crt"), string(servers.CertificatePEM()))
	issuer, token := provider(t)

	const password = "correct horse"
	addr := freeAddr(t)
	w := start(t, "weir", nil, binary(t), "serve", "--config", write(t, filepath.Join(dir, "weir.yaml"), fmt.Sprintf(`
log: {format: json}
server: {listen: %q, tls: {certificate: %q, key: %q, client_ca: %q}}
admin: {listen: ""}
store: {blobs: {filesystem: {root: %q}}}
mirror: {well_known: false}
authz:
  basic: {users: [{name: ci, hash: %q}]}
  oidc: [{name: op, issuer: %q, audience: weir, algorithms: [ES256]}]
  policy: {allow: ["identity.id in ['basic:ci', 'oidc:op:ci'] || identity.certificate.common_name == 'ci'"]}
`, addr, files.Certificate, files.Key, files.ClientCA, filepath.Join(dir, "data"), basic.NewHash(password).Text(), issuer)))
	w.ready(t, listens("tcp", addr))

	image := addr + "/team/app:1"
	ref, err := name.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	img, err := random.Image(2000, 2)
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig.RootCAs = servers.Pool()
	if err := remote.Write(ref, img, remote.WithTransport(transport), remote.WithAuth(&authn.Basic{Username: "ci", Password: password})); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}

	stranger := mtlstest.NewAuthority(t, "strangers").Issue(t, mtlstest.Client("ci"))
	certificate, eve := clients.Issue(t, mtlstest.Client("ci")), clients.Issue(t, mtlstest.Client("eve"))
	debian := startDebianContainerd(t, filepath.Join(dir, "old"), env)
	current := startContainerd(t, filepath.Join(dir, "new"), env)
	n := 0
	for kind, x := range map[string]struct {
		who login
		ok  bool
	}{
		"basic":                 {login{user: "ci", password: password}, true},
		"basic, wrong":          {login{user: "ci", password: "wrong"}, false},
		"oidc":                  {login{user: "whoever", password: token("ci")}, true},
		"oidc, somebody else":   {login{user: "ci", password: token("eve")}, false},
		"mtls":                  {login{shown: &certificate}, true},
		"mtls, somebody else":   {login{shown: &eve}, false},
		"mtls, a stranger's CA": {login{shown: &stranger}, false},
		"nobody":                {login{}, false},
	} {
		t.Run(kind, func(t *testing.T) {
			home := filepath.Join(dir, fmt.Sprint(n)) // podman's paths are short
			n++
			c := &loggedIn{t: t, dir: home, env: env, addr: addr, image: image, who: x.who, policy: policy}
			c.prepare()
			for client, do := range map[string]func() error{
				"podman": c.podman, "skopeo": c.skopeo,
				"crane": func() error { return c.crane(crane) }, "oras": func() error { return c.oras(oras) },
				"containerd-1.6": func() error { return c.containerd(debian) }, "containerd": func() error { return c.containerd(current) },
			} {
				if client == "crane" && x.who.shown != nil {
					continue // it shows none
				}
				err := do()
				if told := err != nil && refused.MatchString(err.Error()); told == x.ok || err != nil && !told {
					t.Errorf("%s: %v", client, err)
				}
			}
			if !x.ok {
				return
			}
			for _, pushed := range []string{"podman", "skopeo", "crane", "oras"} {
				if pushed == "crane" && x.who.shown != nil {
					continue
				}
				at, err := name.ParseReference(addr + "/team/" + pushed + ":" + c.tag())
				if err != nil {
					t.Fatal(err)
				}
				desc, err := remote.Head(at, remote.WithTransport(transport), remote.WithAuth(&authn.Basic{Username: "ci", Password: password}))
				if err != nil || pushed != "podman" && desc.Digest != digest { // podman writes it anew
					t.Errorf("what %s pushed: %v, %v", pushed, desc, err)
				}
			}
		})
	}
}

// loggedIn is somebody at a registry, with each client.
type loggedIn struct {
	t                *testing.T
	dir, addr, image string
	env              []string
	who              login
	policy           string
	cert, key, certs string // files; certs: the directory that podman and skopeo want
}

// tag is that of what is pushed.
func (c *loggedIn) tag() string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return '-'
	}, strings.ToLower(filepath.Base(c.t.Name()))), "-")
}

func (c *loggedIn) prepare() {
	c.env = append(c.env[:len(c.env):len(c.env)], "DOCKER_CONFIG="+c.dir+"/docker", "REGISTRY_AUTH_FILE="+c.dir+"/auth.json")
	write(c.t, filepath.Join(c.dir, "docker", "config.json"), "{}")
	write(c.t, filepath.Join(c.dir, "auth.json"), "{}")
	c.certs = filepath.Join(c.dir, "certs")
	if err := os.MkdirAll(c.certs, 0o700); err != nil {
		c.t.Fatal(err)
	}
	if c.who.shown == nil {
		return
	}
	c.cert = write(c.t, filepath.Join(c.certs, "client.cert"), string(c.who.shown.CertificatePEM()))
	c.key = write(c.t, filepath.Join(c.certs, "client.key"), string(c.who.shown.KeyPEM(c.t)))
}

// all runs commands until one fails.
func (c *loggedIn) all(commands ...[]string) error {
	for _, argv := range commands {
		if argv == nil {
			continue
		}
		if said, err := try(c.t, c.env, argv...); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(argv[:2], " "), err, said)
		}
	}
	return nil
}

// login is a command that logs in, if there is a password to do it with.
func (c *loggedIn) login(argv ...string) []string {
	if c.who.user == "" {
		return nil
	}
	return argv
}

func (c *loggedIn) podman() error {
	p := newPodman(c.t, filepath.Join(c.dir, "podman"), write(c.t, filepath.Join(c.dir, "registries.conf"), ""), c.env)
	do := func(args ...string) []string { return append(p.flags[:len(p.flags):len(p.flags)], args...) }
	c.env = p.env
	target := c.addr + "/team/podman:" + c.tag()
	return c.all(
		c.login(do("login", "--cert-dir", c.certs, "-u", c.who.user, "-p", c.who.password, c.addr)...),
		do("pull", "--cert-dir", c.certs, "--signature-policy", c.policy, c.image),
		do("tag", c.image, target),
		do("push", "--cert-dir", c.certs, target),
	)
}

func (c *loggedIn) skopeo() error {
	return c.all(
		c.login("skopeo", "login", "--cert-dir", c.certs, "-u", c.who.user, "-p", c.who.password, c.addr),
		[]string{"skopeo", "--policy", c.policy, "copy", "--src-cert-dir", c.certs, "--dest-cert-dir", c.certs, "docker://" + c.image, "docker://" + c.addr + "/team/skopeo:" + c.tag()},
	)
}

func (c *loggedIn) crane(crane string) error {
	return c.all(
		c.login(crane, "auth", "login", c.addr, "-u", c.who.user, "-p", c.who.password),
		[]string{crane, "copy", c.image, c.addr + "/team/crane:" + c.tag()},
	)
}

func (c *loggedIn) oras(oras string) error {
	var shown, from, to []string
	if c.cert != "" {
		shown = []string{"--cert-file", c.cert, "--key-file", c.key}
		from = []string{"--from-cert-file", c.cert, "--from-key-file", c.key}
		to = []string{"--to-cert-file", c.cert, "--to-key-file", c.key}
	}
	return c.all(
		c.login(oras, "login", c.addr, "-u", c.who.user, "-p", c.who.password),
		append([]string{oras, "manifest", "fetch", c.image}, shown...),
		append(append([]string{oras, "cp", c.image, c.addr + "/team/oras:" + c.tag()}, from...), to...),
	)
}

// containerd takes logins from its hosts.toml.
func (c *loggedIn) containerd(d *containerd) error {
	text := fmt.Sprintf("server = \"https://%[1]s\"\n[host.\"https://%[1]s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", c.addr)
	if c.cert != "" {
		text += fmt.Sprintf("  client = [[%q, %q]]\n", c.cert, c.key)
	}
	if c.who.user != "" {
		text += fmt.Sprintf("  [host.\"https://%s\".header]\n    authorization = [\"Basic %s\"]\n", c.addr,
			base64.StdEncoding.EncodeToString([]byte(c.who.user+":"+c.who.password)))
	}
	hosts := c.t.TempDir()
	write(c.t, filepath.Join(hosts, c.addr, "hosts.toml"), text)
	said, err := try(c.t, d.env, d.ctr, "content", "fetch", "--all-platforms", "--hosts-dir", hosts, c.image)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, said)
	}
	d.remove(c.t, c.image) // with its content: the next one fetches it, too
	return nil
}

// provider is an OpenID Connect provider, and what makes its tokens for a subject.
func provider(t *testing.T) (issuer string, token func(subject string) string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	part := base64.RawURLEncoding.EncodeToString
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			_, _ = fmt.Fprintf(w, `{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"1","x":%q,"y":%q}]}`, part(point[1:33]), part(point[33:]))
			return
		}
		_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, server.URL, server.URL+"/keys")
	}))
	t.Cleanup(server.Close)
	return server.URL, func(subject string) string {
		signed := part([]byte(`{"alg":"ES256","kid":"1","typ":"JWT"}`)) + "." + part(fmt.Appendf(nil, `{"iss":%q,"sub":%q,"aud":"weir","iat":%d,"exp":%d}`,
			server.URL, subject, time.Now().Unix(), time.Now().Add(time.Hour).Unix()))
		sum := sha256.Sum256([]byte(signed))
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return signed + "." + part(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
	}
}
