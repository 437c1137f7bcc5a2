package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/weir-registry/weir/authz/mtls/mtlstest"
)

// TestExamples loads every configuration that the project shows to people.
func TestExamples(t *testing.T) {
	const top = "../../../"
	files := mtlstest.NewFiles(t)
	corp := mtlstest.Server()
	corp.DNSNames = []string{"weir.corp.example"}
	files.PutPair(t, mtlstest.NewAuthority(t, "corp").Issue(t, corp))
	const users = "ann:$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$BPMNSMYrELYPFeqoVsIpFPbmqkNlvhJpqRHhbJgPBUo\n"
	for _, name := range []string{"docker-hub-token", "ghcr-token", "corp-password", "harbor-robot", "s3-secret", "redis-url", "htpasswd"} {
		text := map[string]string{"redis-url": "redis://redis.corp.example", "htpasswd": users}[name]
		if text == "" {
			text = "secret"
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(files.Key), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	values := map[string]string{"CORP_PASSWORD": "from-env", "S3_ACCESS_KEY_ID": "from-env"}
	env := func(name string) (string, bool) { value, ok := values[name]; return value, ok }
	check := func(s source) {
		t.Helper()
		c, err := load([]source{s}, env, nil)
		if err != nil {
			t.Error(err)
			return
		}
		for _, w := range c.Warnings() {
			t.Errorf("%s: %s", s.name, w)
		}
	}
	shown, err := filepath.Glob(top + "deploy/examples/*.yaml")
	if err != nil || len(shown) < 3 {
		t.Fatalf("examples are %v, %v", shown, err)
	}
	for _, file := range append(shown, top+"deploy/image/weir.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// What they name below /etc/weir is elsewhere here.
		text = bytes.ReplaceAll(text, []byte("/etc/weir/"), []byte(filepath.Dir(files.Key)+"/"))
		check(source{filepath.Base(file), text})
	}

	readme, err := os.ReadFile(top + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllSubmatch(readme, -1)
	if len(blocks) == 0 {
		t.Error("README.md shows no configuration")
	}
	for i, block := range blocks {
		check(source{fmt.Sprintf("README.md, block %d", i+1), block[1]})
	}
}

// TestReadmeNamesEveryKey keeps the reference in README.md whole: the file that it
// shows says all that there is to say, and the defaults.
func TestReadmeNamesEveryKey(t *testing.T) {
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	keys := regexp.MustCompile(`(?m)^\s*(?:- )?([a-z0-9_]+):`)
	for _, m := range keys.FindAllStringSubmatch(print(t, Default()), -1) {
		if !regexp.MustCompile(`(^|[^a-z0-9_])` + m[1] + `:`).Match(readme) {
			t.Errorf("README.md does not name %s", m[1])
		}
	}
}
