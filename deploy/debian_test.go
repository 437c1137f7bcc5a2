//go:build deploy

package deploy

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// machine is a Debian that a test has booted, with systemd. Its network is the test's.
type machine struct {
	*server
	root string
	pid  string // of its init
}

// unpack gives the root of a Debian that is not running.
func unpack(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "tar", "--numeric-owner", "-C", root, "-xf", tool(t, "rootfs-machine"))
	return root
}

// boot starts the Debian in root.
func boot(t *testing.T, root string) *machine {
	t.Helper()
	m := &machine{root: root}
	m.server = serve(t, "machine", nil, "systemd-nspawn", "--quiet", "--directory", root, "--boot", "--register=no", "--keep-unit", "--console=pipe")
	m.until(func() error {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", m.cmd.Process.Pid))
		if err != nil {
			return err
		}
		if m.pid, _, _ = strings.Cut(string(children), " "); m.pid == "" {
			return errors.New("it has no init")
		}
		_, err = m.try("systemctl", "is-system-running", "--wait")
		return err
	})
	return m
}

// try runs a command on the machine.
func (m *machine) try(argv ...string) (string, error) {
	m.t.Helper()
	return try(m.t, nil, append([]string{"nsenter", "--target", m.pid, "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd", "env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"}, argv...)...)
}

func (m *machine) do(argv ...string) string {
	m.t.Helper()
	out, err := m.try(argv...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// files gives what is on the machine's disk, and whose it is.
func (m *machine) files() map[string]string {
	m.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(m.root, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		all[strings.TrimPrefix(name, m.root)] = fmt.Sprint(info.Mode(), " ", owner.Uid, ":", owner.Gid)
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return all
}

// build makes the package of that version.
func build(t *testing.T, version string) string {
	t.Helper()
	lines := strings.Fields(run(t, []string{"DEB_VERSION=" + version}, "debian/build.sh", t.TempDir(), "amd64"))
	return lines[len(lines)-1]
}

// TestDebianPackage boots a Debian, and installs, uses, upgrades, removes and purges the package.
func TestDebianPackage(t *testing.T) {
	const at = "127.0.0.1:5000"
	hub, _ := someRegistry(t, "library/alpine:3.20")
	n := newInternet(t, map[string]http.Handler{"registry-1.docker.io": hub})
	root := unpack(t)
	run(t, nil, "cp", "/etc/hosts", root+"/etc/hosts")
	run(t, nil, "cp", n.ca, root+"/usr/local/share/ca-certificates/internet.crt")
	m := boot(t, root)
	m.do("update-ca-certificates")
	first, second := build(t, "1.0.0~rc.1"), build(t, "1.0.0")
	installed := func(deb string) {
		t.Helper()
		run(t, nil, "cp", deb, m.root+"/weir.deb")
		m.do("dpkg", "--install", "/weir.deb")
		if err := os.Remove(m.root + "/weir.deb"); err != nil {
			t.Fatal(err)
		}
		m.serves()
	}
	before := m.files()

	installed(first)
	if state := m.do("systemctl", "is-enabled", "weir"); state != "enabled\n" {
		t.Errorf("it does not start with the machine: %s", state)
	}
	m.runsAsTheUnitSays()
	if terms := m.do("cat", "/usr/share/doc/weir/copyright"); !strings.Contains(terms, "github.com/google/cel-go v") {
		t.Errorf("the terms of what is in it are %d bytes", len(terms))
	}
	for file, want := range map[string]string{"/etc/weir": "drwxr-x--- 0:G", "/etc/weir/weir.yaml": "-rw-r--r-- 0:0", "/var/lib/weir": "drwxr-x--- U:G", "/usr/bin/weir": "-rwxr-xr-x 0:0"} {
		if got := m.named(m.files()[file]); got != want {
			t.Errorf("%s is %s, want %s", file, got, want)
		}
	}

	// Everybody may pull and nobody may push, until the lines are taken in that are there as comments.
	n.pulls(at+"/library/alpine:3.20", "")
	n.refused(at + "/team/app")
	m.until(func() error { // the journal follows
		log := m.do("journalctl", "--unit=weir", "--output=cat")
		if !strings.Contains(log, remedy) {
			return fmt.Errorf("it does not say what would allow a push:\n%s", log)
		}
		return nil
	})
	config := m.root + "/etc/weir/weir.yaml"
	changed := read(t, config)
	for _, line := range []string{"- request.action in ['push', 'delete'] && identity.id == 'basic:ann'", "basic: {htpasswd: /etc/weir/htpasswd}"} {
		if !strings.Contains(changed, "# "+line) {
			t.Fatalf("the configuration does not show the line %s", line)
		}
		changed = strings.Replace(changed, "# "+line, line, 1)
	}
	m.do("sh", "-c", "echo secret | weir hash-password --user ann >> /etc/weir/htpasswd")
	write(t, config, changed)
	m.until(func() error { return n.push(at+"/team/app:v1", n.options("ann", "secret")...) })

	digest := n.pulls(at+"/team/app:v1", "")
	m.do("systemctl", "restart", "weir")
	m.serves()
	if after := n.pulls(at+"/team/app:v1", ""); after != digest {
		t.Errorf("after a restart it is %s, and was %s", after, digest)
	}
	pid := m.mainPID()
	m.do("systemctl", "reload", "weir")
	if after := m.mainPID(); after != pid {
		t.Error("reloading restarts it")
	}
	m.knowsItsBoot()
	m.takesOut("team/app:v1")
	m.listensForAProxy(config, changed)
	m.refusesMistake(config, changed, func() { n.pulls(at+"/team/app:v1", "") })
	pid = m.mainPID()

	installed(second)
	if m.mainPID() == pid {
		t.Error("after an upgrade the old one runs")
	}
	if read(t, config) != changed {
		t.Error("an upgrade has taken the configuration back")
	}
	if after := n.pulls(at+"/team/app:v1", ""); after != digest {
		t.Errorf("after an upgrade it is %s, and was %s", after, digest)
	}

	m.do("dpkg", "--remove", "weir")
	if err := ready("http://127.0.0.1:5001/healthz")(); err == nil {
		t.Error("it runs although it was removed")
	}
	if read(t, config) != changed || len(m.files()) <= len(before) {
		t.Error("a removal has taken configuration or images")
	}
	// And onto a disk of its own.
	m.do("sh", "-c", "mv /var/lib/weir /srv/disk && mkdir /var/lib/weir && mount --bind /srv/disk /var/lib/weir")
	installed(second)
	n.pulls(at+"/team/app:v1", "")
	if said, err := m.try("dpkg", "--purge", "weir"); err != nil {
		t.Errorf("purging a disk of its own: %v\n%s", err, said)
	}
	// The disk stays where it is, empty.
	m.do("sh", "-c", "umount /var/lib/weir && rmdir /var/lib/weir /srv/disk")
	installed(second)
	m.do("dpkg", "--purge", "weir")
	after := m.files()
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if _, ok := before[name]; !ok && !known(name) {
			t.Errorf("%s stays", name)
		}
	}
	m.do("systemctl", "poweroff", "--no-block")
	<-m.over
	m.err = nil
}

// knowsItsBoot: what it has hashed of a push is believed for as long as the machine runs.
func (m *machine) knowsItsBoot() {
	m.t.Helper()
	if boot := m.do("cat", "/var/lib/weir/.lock"); len(boot) != len("01234567-89ab-cdef-0123-456789abcdef") {
		m.t.Errorf("its store is locked in the boot %q", boot)
	}
}

// takesOut: images are exported to where the unit lets weir write, or the command says that it cannot.
func (m *machine) takesOut(image string) {
	m.t.Helper()
	const other = "export: the running weir does not see this %s, but files of its own: name a directory that both see, or stop weir first\n"
	for dir, want := range map[string]string{"/tmp/out": fmt.Sprintf(other, "/tmp"), "/root/out": fmt.Sprintf(other, "/root"), "/srv/b/out": "read-only file system"} {
		if said, err := m.try("weir", "export", "--layout", dir, image, "--config", "/etc/weir/weir.yaml"); err == nil || !strings.Contains(fmt.Sprint(said, err), want) {
			m.t.Errorf("exported to %s: %s, %v", dir, said, err)
		}
	}
	const dropin = "/etc/systemd/system/weir.service.d"
	m.do("install", "-d", "-o", "weir", "-g", "weir", "/srv/backup")
	write(m.t, m.root+dropin+"/override.conf", "[Service]\nReadWritePaths=/srv/backup\n")
	restart := func() { m.do("systemctl", "daemon-reload"); m.do("systemctl", "restart", "weir"); m.serves() }
	restart()
	m.do("weir", "export", "--layout", "/srv/backup/images", image, "--config", "/etc/weir/weir.yaml")
	m.do("weir", "import", "--layout", "/srv/backup/images", "--config", "/etc/weir/weir.yaml")
	m.do("test", "-s", "/srv/backup/images/index.json")
	m.do("cp", "-r", "/srv/backup/images", "/tmp/in")
	if said, err := m.try("weir", "import", "--layout", "/tmp/in", "--config", "/etc/weir/weir.yaml"); err == nil || !strings.Contains(fmt.Sprint(said, err), "does not see this /tmp") {
		m.t.Errorf("imported from /tmp: %s, %v", said, err)
	}
	m.do("rm", "-r", "/srv/backup", "/tmp/in", dropin)
	restart()
}

// listensForAProxy: who is in weir's group reaches it at a socket, others do not.
func (m *machine) listensForAProxy(file, right string) {
	m.t.Helper()
	const dial = `socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un("/run/weir/weir.sock")) or die "$!\n"`
	write(m.t, file, strings.Replace(right, "listen: 127.0.0.1:5000", "listen: [127.0.0.1:5000, 'unix:/run/weir/weir.sock']", 1))
	m.do("systemctl", "restart", "weir")
	m.serves()
	if said, err := m.try("runuser", "-u", "www-data", "--", "perl", "-MSocket", "-e", dial); err == nil || !strings.Contains(fmt.Sprint(said, err), "Permission denied") {
		m.t.Errorf("everybody may connect: %s, %v", said, err)
	}
	m.do("adduser", "--quiet", "www-data", "weir")
	if said, err := m.try("runuser", "-u", "www-data", "--", "perl", "-MSocket", "-e", dial); err != nil {
		m.t.Errorf("its group may not connect: %s, %v", said, err)
	}
	m.do("deluser", "--quiet", "www-data", "weir")
	write(m.t, file, right)
	m.do("systemctl", "restart", "weir")
	m.serves()
}

// refusesMistake: a mistake in the configuration is told with its place when it is saved, while the last
// good one goes on, and fails the start of it.
func (m *machine) refusesMistake(file, right string, works func()) {
	m.t.Helper()
	before, after, found := strings.Cut(right, "\nauthz:")
	if !found {
		m.t.Fatalf("there is no authz in\n%s", right)
	}
	mistake := fmt.Sprintf(`/etc/weir/weir.yaml:%d: unknown key "autz": did you mean "authz"?`, strings.Count(before, "\n")+2)
	journal := func() string { return m.do("journalctl", "--unit=weir", "--output=cat") }
	write(m.t, file, before+"\nautz:"+after)
	m.until(func() error {
		if said := journal(); !strings.Contains(said, "configuration rejected") || !strings.Contains(said, strings.ReplaceAll(mistake, `"`, `\"`)) {
			return fmt.Errorf("it does not say %s:\n%s", mistake, said)
		}
		return nil
	})
	works()
	if said, err := m.try("systemctl", "restart", "weir"); err == nil {
		m.t.Errorf("it starts with a mistake: %s", said)
	}
	m.until(func() error { // the journal follows
		if said := journal(); !strings.Contains(said, "\n"+mistake+"\n") {
			return fmt.Errorf("it does not say %s:\n%s", mistake, said)
		}
		return nil
	})
	write(m.t, file, right)
	m.do("systemctl", "restart", "weir")
	m.serves()
}

// known are files that others write whenever packages or services come and go.
func known(name string) bool {
	for _, prefix := range []string{"/var/lib/dpkg/", "/var/log/", "/run/", "/tmp/", "/var/tmp/", "/proc/", "/sys/", "/dev/", "/var/lib/systemd/", "/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/subuid-", "/etc/subgid-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// serves waits until weir is ready.
func (m *machine) serves() {
	m.t.Helper()
	m.until(ready("http://127.0.0.1:5001/readyz"))
	if state := m.do("systemctl", "is-active", "weir"); state != "active\n" {
		m.t.Fatalf("weir is %s", state)
	}
}

func (m *machine) mainPID() string {
	m.t.Helper()
	return strings.TrimSpace(m.do("systemctl", "show", "--value", "--property=MainPID", "weir"))
}

// named has an owner's numbers as U and G where they are weir's.
func (m *machine) named(owner string) string {
	m.t.Helper()
	mode, numbers, _ := strings.Cut(owner, " ")
	uid, gid, _ := strings.Cut(numbers, ":")
	if uid == strings.TrimSpace(m.do("id", "-u", "weir")) {
		uid = "U"
	}
	if gid == strings.TrimSpace(m.do("id", "-g", "weir")) {
		gid = "G"
	}
	return mode + " " + uid + ":" + gid
}

// runsAsTheUnitSays: the process is weir's user, can become nobody else, has no capability,
// and its system calls are filtered.
func (m *machine) runsAsTheUnitSays() {
	m.t.Helper()
	status := m.do("cat", "/proc/"+m.mainPID()+"/status")
	has := map[string]string{}
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		has[key] = strings.Join(strings.Fields(value), " ")
	}
	uid := strings.TrimSpace(m.do("id", "-u", "weir"))
	if id, err := strconv.Atoi(uid); err != nil || id == 0 {
		m.t.Errorf("its user is %s", uid)
	}
	for key, want := range map[string]string{
		"Uid": strings.Join([]string{uid, uid, uid, uid}, " "), "CapPrm": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
	} {
		if has[key] != want {
			m.t.Errorf("%s of the process is %s, want %s", key, has[key], want)
		}
	}
}

// TestDebianPackageIsOne: the same commit makes the same package, whatever the machine builds for, and however
// long git would make the name of a commit.
func TestDebianPackageIsOne(t *testing.T) {
	var before string
	for _, env := range [][]string{
		{"GOAMD64=v1"},
		{"GOAMD64=v3", "GOEXPERIMENT=nogreenteagc", "GOOS=darwin", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=core.abbrev", "GIT_CONFIG_VALUE_0=20"},
	} {
		lines := strings.Fields(run(t, env, "debian/build.sh", t.TempDir(), "amd64"))
		made := lines[len(lines)-1]
		is := filepath.Base(made) + fmt.Sprintf(" %x", sha256.Sum256([]byte(read(t, made))))
		if before != "" && is != before {
			t.Errorf("with %q it is %s, and was %s", env, is, before)
		}
		before = is
	}
}

// TestUnit has systemd look at the unit: nothing in it is misspelt or without effect, and what
// it leaves open is little.
func TestUnit(t *testing.T) {
	root := unpack(t)
	run(t, nil, "install", "-D", "-m", "0755", binary(t), root+"/usr/bin/weir")
	run(t, nil, "install", "-m", "0644", "systemd/weir.service", root+"/usr/lib/systemd/system/weir.service")
	inRoot := func(argv ...string) string {
		t.Helper()
		return run(t, nil, append([]string{"chroot", root, "systemd-analyze"}, argv...)...)
	}
	run(t, nil, "chroot", root, "useradd", "--system", "weir")
	if said := inRoot("verify", "--man=no", "/usr/lib/systemd/system/weir.service"); said != "" {
		t.Error(said)
	}
	// 15 is 1.5 of 10. What is left open: the network, the machine's users, its root directory.
	said := strings.Split(strings.TrimSpace(inRoot("security", "--offline=true", "--no-pager", "--threshold=15", "/usr/lib/systemd/system/weir.service")), "\n")
	t.Log(said[len(said)-1])
}
