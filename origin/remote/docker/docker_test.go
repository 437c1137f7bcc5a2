package docker_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/origin/remote/docker"
	"github.com/weir-registry/weir/origin/remote/login"
)

// home is a home with nothing in it, and a PATH of its own.
func home(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, value := range map[string]string{
		"HOME": dir, "DOCKER_CONFIG": filepath.Join(dir, "docker"), "XDG_RUNTIME_DIR": "", "XDG_CONFIG_HOME": "",
		"REGISTRY_AUTH_FILE": filepath.Join(dir, "auth.json"), "PATH": dir + ":/usr/bin:/bin",
	} {
		t.Setenv(name, value)
	}
	if err := os.Mkdir(filepath.Join(dir, "docker"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

func auth(user, password string) string {
	return fmt.Sprintf(`{"auth":%q}`, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

func want(t *testing.T, k *docker.Keychain, username, password, identity string) login.Login {
	t.Helper()
	l, err := k.Login(t.Context())
	if err != nil || l.Username != username || l.Password.Reveal() != password || l.Identity.Reveal() != identity {
		t.Errorf("%q %q %q, %v; want %q %q %q", l.Username, l.Password.Reveal(), l.Identity.Reveal(), err, username, password, identity)
	}
	return l
}

func TestLogins(t *testing.T) {
	dir := home(t)
	write(t, filepath.Join(dir, "docker-credential-kept"), `#!/bin/sh
read -r server
case $server in
helped.io) echo '{"Username":"h","Secret":"ph"}' ;;
token.io) echo '{"Username":"<token>","Secret":"refresh"}' ;;
*) echo "credentials not found in native keychain"; exit 1 ;;
esac
`)
	write(t, filepath.Join(dir, "docker", "config.json"), `{
"auths":{"https://index.docker.io/v1/":`+auth("hub", "p1")+`,"plain.io":`+auth("u", "p:2")+`,"port.io:5000":`+auth("v", "p3")+`,
"identity.io":{"auth":"`+base64.StdEncoding.EncodeToString([]byte("00000000-0000-0000-0000-000000000000:"))+`","identitytoken":"it"}},
"credHelpers":{"helped.io":"kept","token.io":"kept","unknown.io":"kept"}}`)
	for _, test := range []struct{ host, username, password, identity string }{
		{"registry-1.docker.io", "hub", "p1", ""},
		{"docker.io", "hub", "p1", ""},
		{"plain.io", "u", "p:2", ""},
		{"port.io:5000", "v", "p3", ""},
		{"port.io", "", "", ""},
		{"nobody.io", "", "", ""},
		{"identity.io", "00000000-0000-0000-0000-000000000000", "", "it"},
		{"helped.io", "h", "ph", ""},
		{"token.io", "", "", "refresh"},
		{"unknown.io", "", "", ""},
	} {
		t.Run(test.host, func(t *testing.T) { want(t, docker.New(test.host), test.username, test.password, test.identity) })
	}
}

func TestPodmansFile(t *testing.T) {
	dir := home(t)
	k := docker.New("plain.io")
	want(t, k, "", "", "")
	write(t, filepath.Join(dir, "auth.json"), `{"auths":{"plain.io":`+auth("u", "p")+`}}`)
	want(t, docker.New("plain.io"), "u", "p", "")
}

// A file that changes counts, though not within a second of the last look.
func TestFileThatChanges(t *testing.T) {
	dir := home(t)
	file := filepath.Join(dir, "docker", "config.json")
	synctest.Test(t, func(t *testing.T) {
		k := docker.New("plain.io")
		want(t, k, "", "", "") // and there is none
		write(t, file, `{"auths":{"plain.io":`+auth("u", "one")+`}}`)
		time.Sleep(time.Second)
		want(t, k, "u", "one", "")
		write(t, file, `{"auths":{"plain.io":`+auth("u", "changed")+`}}`)
		want(t, k, "u", "one", "")
		time.Sleep(2 * time.Second)
		l := want(t, k, "u", "changed", "")
		// What is refused is looked up again.
		time.Sleep(time.Minute)
		k.Drop(l)
		if again := want(t, k, "u", "changed", ""); again == l {
			t.Error("it was not looked up")
		}
	})
}

func TestNoneToBeHad(t *testing.T) {
	dir := home(t)
	file := filepath.Join(dir, "docker", "config.json")
	write(t, filepath.Join(dir, "docker-credential-broken"), "#!/bin/sh\necho canary\nexit 3\n")
	for name, text := range map[string]string{
		"no JSON":          `{"auths":{"plain.io":{"auth":"canary`,
		"a broken helper":  `{"credHelpers":{"plain.io":"broken"}}`,
		"a missing helper": `{"credHelpers":{"plain.io":"missing"}}`,
		"registrytoken":    `{"auths":{"plain.io":{"registrytoken":"canary"}}}`,
	} {
		write(t, file, text)
		k := docker.New("plain.io")
		_, err := k.Login(t.Context())
		if !errors.Is(err, login.ErrService) || strings.Contains(fmt.Sprintf("%v", err), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A helper that waits for ever holds up nobody whose own time is over.
func TestHelperThatHangs(t *testing.T) {
	dir := home(t)
	begun, goOn := filepath.Join(dir, "begun"), filepath.Join(dir, "go-on")
	for _, fifo := range []string{begun, goOn} {
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "docker-credential-stuck"),
		"#!/bin/sh\necho >"+begun+"\ncat "+goOn+" >/dev/null\necho '{\"Username\":\"u\",\"Secret\":\"p\"}'\n")
	write(t, filepath.Join(dir, "docker", "config.json"), `{"credHelpers":{"plain.io":"stuck"}}`)
	k := docker.New("plain.io")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		if _, err := os.ReadFile(begun); err != nil {
			t.Error(err)
		}
	}()
	if _, err := k.Login(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	write(t, goOn, "")
	want(t, k, "u", "p", "")
}

// A helper that waits for ever is one process, however often a login is needed
// meanwhile; once it answers, that counts.
func TestHelperThatHangsIsOne(t *testing.T) {
	dir := home(t)
	begun, goOn, calls := filepath.Join(dir, "begun"), filepath.Join(dir, "go-on"), filepath.Join(dir, "calls")
	for _, fifo := range []string{begun, goOn} {
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "docker-credential-stuck"),
		"#!/bin/sh\necho call >>"+calls+"\necho >"+begun+"\ncat "+goOn+" >/dev/null\necho '{\"Username\":\"u\",\"Secret\":\"p\"}'\n")
	write(t, filepath.Join(dir, "docker", "config.json"), `{"credHelpers":{"plain.io":"stuck"}}`)
	k := docker.New("plain.io")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		if _, err := os.ReadFile(begun); err != nil {
			t.Error(err)
		}
	}()
	for range 5 {
		if _, err := k.Fetch(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	write(t, goOn, "")
	if l, err := k.Fetch(t.Context()); err != nil || l.Username != "u" {
		t.Errorf("%q, %v", l.Username, err)
	}
	if text, err := os.ReadFile(calls); err != nil || string(text) != "call\n" {
		t.Errorf("calls: %q, %v", text, err)
	}
}
