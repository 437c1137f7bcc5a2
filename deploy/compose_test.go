//go:build deploy

package deploy

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestComposeFile: Compose understands the file, and publishes what is said to it.
func TestComposeFile(t *testing.T) {
	said := run(t, []string{"WEIR_LISTEN=192.0.2.1", "WEIR_IMAGE=registry.test/weir:v1"}, "docker-compose", "--file", "compose/compose.yaml", "config")
	for _, want := range []string{"192.0.2.1:5000:5000", "image: registry.test/weir:v1", "read_only: true", "/compose:/etc/weir:ro", "data:/data"} {
		if !strings.Contains(said, want) {
			t.Errorf("%s is not in it:\n%s", want, said)
		}
	}
}

// The network of what Compose starts.
const (
	composeSubnet  = "172.29.0.0/24"
	composeGateway = "172.29.0.1"
)

// TestCompose types what the guide says of Docker Compose, on a machine with Docker and nothing else: the
// image is made, taken by the engine and started, and Docker pulls through it. Then somebody is let push, as
// the file says, and all of it is taken down and brought up again.
func TestCompose(t *testing.T) {
	hub, digest := someRegistry(t, "library/alpine:3.20")
	n := newInternet(t, map[string]http.Handler{"registry-1.docker.io": hub})
	checkout := copyCheckout(t)
	at := filepath.Join(checkout, "deploy", "compose")
	// Where the image finds the registry, and whom it believes. Nothing else is another one than a user's.
	more := write(t, filepath.Join(t.TempDir(), "more.yaml"), fmt.Sprintf(`services:
  weir:
    environment: {SSL_CERT_FILE: /ca.crt}
    volumes: [%q]
    extra_hosts: ["registry-1.docker.io:%s"]
networks:
  default: {ipam: {config: [{subnet: %s, gateway: %[2]s}]}}
`, n.ca+":/ca.crt:ro", composeGateway, composeSubnet))
	startDocker(t)
	env := []string{"DOCKER_CONFIG=" + t.TempDir(), "DOCKER_HOST=", "DOCKER_CONTEXT=", "COMPOSE_FILE=" + at + "/compose.yaml:" + more, "MAKEFLAGS=", "MAKELEVEL="}
	// Debian has Compose as a program of its own.
	const plugin = `docker() { if [[ $1 == compose ]]; then shift; command docker-compose "$@"; else command docker "$@"; fi; }` + "\n"
	tries := func(text string) (string, error) {
		t.Helper()
		return try(t, env, "bash", "-euo", "pipefail", "-c", plugin+`cd "$0" && { `+text+"\n} </dev/null 2>&1", checkout)
	}
	must := func(text string) string {
		t.Helper()
		said, err := tries(text)
		if err != nil {
			t.Fatal(err)
		}
		return said
	}

	all := blocks(read(t, "README.md"))
	i := slices.IndexFunc(all, func(b block) bool { return b.section == "With Docker Compose" && b.info == notHere })
	if i < 0 {
		t.Fatal("the guide says nothing of Docker Compose")
	}
	guide := strings.ReplaceAll(all[i].text, "VERSION", "unknown") // as what is no repository of git is called
	if said := must(guide); !strings.Contains(said, "\ndist/image:unknown sha256:") {
		t.Errorf("make image does not say what skopeo is to be told:\n%s", said)
	}
	serves := func() error { // also with 401, once people can log in
		resp, err := http.Get("http://127.0.0.1:5000/v2/")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	until(t, "what Compose has started", nil, serves)
	must("docker pull --quiet localhost:5000/docker.io/library/alpine:3.20")
	if got := must("docker image inspect --format '{{.RepoDigests}}' localhost:5000/docker.io/library/alpine:3.20"); !strings.Contains(got, digest.String()) {
		t.Errorf("pulled is %s, want %s", got, digest)
	}

	// Nobody pushes, until the lines are taken in that are there as comments.
	must("docker tag localhost:5000/docker.io/library/alpine:3.20 localhost:5000/team/app:v1")
	if said, err := tries("docker push localhost:5000/team/app:v1"); err == nil || !strings.Contains(said, "denied") {
		t.Errorf("anybody's push: %v\n%s", err, said)
	}
	until(t, "the log of weir", nil, func() error {
		if said := must("docker compose logs weir"); !strings.Contains(said, remedy) {
			return fmt.Errorf("it does not say what would allow a push:\n%s", said)
		}
		return nil
	})
	hash := strings.TrimSpace(must("echo secret | docker compose run --rm -T weir hash-password"))
	hash = hash[strings.LastIndex(hash, "\n")+1:]
	changed := strings.Replace(read(t, at+"/weir.yaml"), "$argon2id$...", hash, 1)
	for _, line := range []string{"- request.action in ['push', 'delete'] && identity.id == 'basic:ann'", "basic: {users: "} {
		if !strings.Contains(changed, "# "+line) {
			t.Fatalf("the configuration does not show the line %s", line)
		}
		changed = strings.Replace(changed, "# "+line, line, 1)
	}
	write(t, at+"/new", changed)
	if err := os.Rename(at+"/new", at+"/weir.yaml"); err != nil { // as editors save
		t.Fatal(err)
	}
	// Before the change is taken in anybody logs in, and nobody pushes.
	until(t, "the login, and a push", nil, func() error {
		_, err := tries("docker login --username ann --password secret localhost:5000 && docker push localhost:5000/team/app:v1")
		return err
	})

	// What was pushed is in the volume, which outlives the container.
	must("docker compose down")
	if err := serves(); err == nil {
		t.Error("it answers although it was taken down")
	}
	taken, err := net.Listen("tcp", "127.0.0.1:5000")
	if err != nil {
		t.Fatal(err)
	}
	if said, err := tries("docker compose up -d"); err == nil || !strings.Contains(said, "127.0.0.1:5000") || !strings.Contains(said, "address already in use") {
		t.Errorf("on a port that another one has: %v\n%s", err, said)
	}
	_ = taken.Close()
	must("docker compose up -d")
	until(t, "what was brought up again", nil, serves)
	must("docker image rm localhost:5000/team/app:v1 localhost:5000/docker.io/library/alpine:3.20 && docker pull --quiet localhost:5000/team/app:v1")
	must("docker compose down --volumes")
}

// copyCheckout gives a copy of what would be committed.
func copyCheckout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	run(t, nil, "bash", "-euo", "pipefail", "-c", `git -C .. ls-files -coz --exclude-standard | tar -C .. --null --ignore-failed-read -T - -c | tar -x -C "$0"`, dir)
	return dir
}

// startDocker starts Debian's engine where Docker's client looks for one, with its own bridge and its own rules.
func startDocker(t *testing.T) {
	t.Helper()
	s := serve(t, "dockerd", nil, "dockerd", "--data-root", filepath.Join(t.TempDir(), "docker"))
	s.until(func() error {
		return exec.CommandContext(t.Context(), "docker", "--host", "unix:///var/run/docker.sock", "version").Run()
	})
}
