package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/cmd/weir/doctor"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// examined runs weir doctor and gives what did not go well, "containerd: tag: note".
func examined(t *testing.T, server, image string) []string {
	t.Helper()
	var out, errs bytes.Buffer
	args := []string{"doctor", "--server", server, "--json"}
	if image != "" {
		args = append(args, "--image", image)
	}
	code := run(t.Context(), args, &out, &errs)
	var r doctor.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("exit %d, %v: %s", code, err, errs.String())
	}
	if broken, all := r.Broken(); broken > 0 != (code == exitFailed) || all < 4 {
		t.Errorf("exit %d with %d of %d: %s", code, broken, all, errs.String())
	}
	var found []string
	if image == "" && (r.Image != "team/app:v1" || !r.Chosen) {
		found = append(found, r.Image)
	}
	for _, c := range r.Clients {
		for _, check := range c.Checks {
			if check.State != doctor.OK {
				found = append(found, fmt.Sprintf("%s: %s: %s", c.Name, check.Name, check.State))
			}
		}
	}
	return found
}

// No client would break on weir: not where it mirrors, nor where people push to it, nor
// where tokens are wanted; and what its settings do to clients is told.
func TestDoctor(t *testing.T) {
	const broken, classic, store = "would break", "Docker with its classic image store: ", "Docker with the containerd image store: "
	u := remotetest.New(t)
	d := u.AddImage("library/app", "", origintest.Bytes(1, 200<<10)).Descriptor
	d.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	u.AddIndex("library/app", "1", d)
	tokens := "authz: {basic: {users: [{name: ci, hash: '" + basic.NewHash("secret").Text() + "'}]}, policy: {allow: [%q]}}\n"
	const hubs, app = "  default: docker.io\n", "docker.io/library/app:1"
	for name, test := range map[string]struct {
		mirror, more, image string
		external            string
		login, identity     bool
		want                []string
	}{
		"a mirror":                    {mirror: hubs, image: app},
		"tokens for anybody":          {mirror: hubs, image: app, more: fmt.Sprintf(tokens, "request.action == 'pull'")},
		"tokens for whoever there is": {mirror: hubs, image: app, more: fmt.Sprintf(tokens, "request.action == 'pull'"), login: true},
		"users only": {
			mirror: hubs, image: app, more: fmt.Sprintf(tokens, "identity.id == 'basic:ci'"), login: true,
			want: []string{"containerd: login: note", store + "tag: " + broken, classic + "tag: " + broken},
		},
		"users only, and nobody is logged in": {
			mirror: hubs, image: app, more: fmt.Sprintf(tokens, "identity.id == 'basic:ci'"),
			want: []string{"containerd: tag: " + broken, store + "tag: " + broken, classic + "tag: " + broken, "podman and CRI-O: manifest by tag: " + broken},
		},
		"users of a registry": {
			image: "team/app:v1", more: fmt.Sprintf(tokens, "request.action == 'push' || identity.id == 'basic:ci'"), login: true,
		},
		"a user by an identity token": {
			image: "team/app:v1", more: fmt.Sprintf(tokens, "request.action == 'push' || identity.id == 'basic:ci'"), identity: true,
		},
		"a registry":               {image: "team/app:v1"},
		"a registry, and no image": {},
		"users of a registry, and no image": {
			more: fmt.Sprintf(tokens, "request.action == 'push' || identity.id == 'basic:ci'"), login: true,
		},
		"no default": {image: app, want: []string{classic + "tag: " + broken}},
		"an address that nobody reaches": {
			mirror: hubs, image: app, external: "http://127.0.0.1:1", more: fmt.Sprintf(tokens, "request.action == 'pull'"),
			// The others are let in without one.
			want: []string{classic + "token: " + broken, "podman and CRI-O: token: " + broken},
		},
	} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			server := "listen: '127.0.0.1:0'"
			if test.external != "" {
				server += ", external_url: '" + test.external + "'"
			}
			r := startText(t, data, "log: {format: json}\nserver: {"+server+"}\nadmin: {listen: '127.0.0.1:0'}\n"+
				"store: {blobs: {filesystem: {root: '"+data+"'}}}\nmirror:\n  well_known: false\n"+hub(u, test.mirror)+test.more)
			if test.image != app {
				r.pushImage("team/app", "v1", v1.Image{Platform: v1.Platform{OS: "linux"}}, origintest.Bytes(2, 100<<10))
			}
			text := "{}"
			if test.login {
				text = fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, strings.TrimPrefix(r.url, "http://"), base64.StdEncoding.EncodeToString([]byte("ci:secret")))
			}
			if test.identity {
				text = fmt.Sprintf(`{"auths": {%q: {"auth": %q, "identitytoken": %q}}}`, strings.TrimPrefix(r.url, "http://"),
					base64.StdEncoding.EncodeToString([]byte("ci:")), refreshToken(t, r.url, "ci", "secret"))
			}
			dockerConfig(t, text)
			if got := examined(t, r.url, test.image); !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// refreshToken is what docker login keeps in place of a password.
func refreshToken(t *testing.T, server, username, password string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server+"/token?offline_token=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(username, password)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var said struct {
		Refresh string `json:"refresh_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&said); err != nil || said.Refresh == "" {
		t.Fatal(res.Status, err)
	}
	return said.Refresh
}
