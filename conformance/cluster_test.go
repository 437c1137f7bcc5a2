//go:build clients

package conformance

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/weir-registry/weir/authz/mtls/mtlstest"
)

// The network of TestChart, in which names mean what they mean elsewhere.
const (
	hubIP     = "10.72.0.2"
	centralIP = "10.72.0.3"
	nodeIP    = "10.72.0.4"
	hubName   = "registry-1.docker.io"
	hostNames = hubIP + " " + hubName + "\n" + centralIP + " weir-central.weir.svc\n127.0.0.1 localhost\n"
)

// certsDir is where containerd's files are on a host.
const certsDir = "/etc/containerd/certs.d"

// cluster is a registry that is taken for Docker Hub, a host for the central tier, and a node
// with two containerds and a Docker, which is on the older one.
type cluster struct {
	dir           string
	env           []string // of programs that believe the registry's certificate
	hubHost       *host
	hub           *upstream
	hubFiles      mtlstest.Files
	central, node *kubelet
	old, current  *containerd
	engine        *docker
	transport     http.RoundTripper // leads to the registry
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{dir: workDir(t)}
	at := func(elem ...string) string { return filepath.Join(append([]string{c.dir}, elem...)...) }
	lan := newSwitch(t, "net")
	join := func(name, ip string) *host {
		h := newHost(t, name)
		h.join(t, lan, ip+"/24")
		return h
	}
	authority := mtlstest.NewAuthority(t, "everybody's")
	known := string(authority.CertificatePEM())
	c.env = []string{
		"HOME=" + at("home"), "DOCKER_CONFIG=" + at("home", ".docker"), "NO_PROXY=*", "no_proxy=*",
		"SSL_CERT_FILE=" + write(t, at("authorities.pem"), known),
	}
	write(t, at("home", ".docker", "config.json"), "{}") // not this machine's credentials
	takeNames(t, write(t, at("hosts"), hostNames))

	c.hubHost = join("hub", hubIP)
	server := mtlstest.Server()
	server.DNSNames = []string{hubName}
	c.hubFiles = mtlstest.NewFiles(t)
	pair := authority.Issue(t, server)
	c.hubFiles.PutPair(t, pair)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: authority.Pool()},
		DialContext: func(ctx context.Context, network, _ string) (conn net.Conn, err error) {
			if onErr := c.hubHost.on(func() { conn, err = new(net.Dialer).DialContext(ctx, network, hubIP+":443") }); onErr != nil {
				return nil, onErr
			}
			return conn, err
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	c.transport = transport
	c.startHub(t)

	kubelet := func(name, ip string) *kubelet {
		k := &kubelet{host: join(name, ip), ip: ip, dir: at(name), authorities: known, hosts: hostNames}
		k.asks = k.client(t)
		if err := os.MkdirAll(k.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return k
	}
	c.central, c.node = kubelet("central", centralIP), kubelet("node", nodeIP)
	write(t, at("docker", "daemon.json"), "{}")
	run(t, nil, binary(t), "client", "docker", "--mirror", "http://127.0.0.1:5000", "--write", at("docker"))
	c.node.must(t, func() {
		c.old = startDebianContainerd(t, filepath.Dir(filepath.Join(c.node.dir, certsDir)), c.env)
		c.current = startContainerd(t, at("new"), c.env)
		c.engine = startDocker(t, at("docker"), c.env, c.old)
	})
	c.current.certs = c.old.certs
	return c
}

// takeNames has names be looked up in a file, in the namespace of these tests.
func takeNames(t *testing.T, file string) {
	t.Helper()
	if err := syscall.Mount(file, "/etc/hosts", "", syscall.MS_BIND, ""); err != nil {
		t.Fatalf("mount on /etc/hosts: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount("/etc/hosts", syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount /etc/hosts: %v", err)
		}
	})
}

// startHub starts the registry, with all that it had.
func (c *cluster) startHub(t *testing.T) {
	t.Helper()
	c.hub = &upstream{addr: hubIP + ":443"}
	file := write(t, filepath.Join(c.dir, "hub.yml"), fmt.Sprintf(`
version: 0.1
log: {level: warn, accesslog: {disabled: false}}
storage: {filesystem: {rootdirectory: %q}}
http: {addr: %q, tls: {certificate: %q, key: %q}}
`, filepath.Join(c.dir, "hub-data"), c.hub.addr, c.hubFiles.Certificate, c.hubFiles.Key))
	c.hubHost.must(t, func() {
		c.hub.process = start(t, "docker-registry", nil, "docker-registry", "serve", file)
		c.hub.ready(t, listens("tcp", c.hub.addr))
	})
}

// pushDebian pushes the layout's image as docker.io/library/debian:bookworm.
func (c *cluster) pushDebian(t *testing.T) (digest string) {
	t.Helper()
	policy := write(t, filepath.Join(c.dir, "policy.json"), `{"default": [{"type": "insecureAcceptAnything"}]}`)
	c.hubHost.must(t, func() {
		run(t, c.env, "skopeo", "--policy", policy, "copy", "--all",
			"oci:"+filepath.Join(c.dir, "debian")+":bookworm", "docker://"+hubName+"/library/debian:bookworm")
	})
	d, err := remote.Get(c.reference(t, "debian:bookworm"), remote.WithTransport(c.transport))
	if err != nil {
		t.Fatal(err)
	}
	return d.Digest.String()
}

// pushRandom pushes an image that nothing is in.
func (c *cluster) pushRandom(t *testing.T, repo string) {
	t.Helper()
	image, err := random.Image(1<<20, 2)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(c.reference(t, repo+":1"), image, remote.WithTransport(c.transport)); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) reference(t *testing.T, image string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(hubName + "/library/" + image)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

var asker = regexp.MustCompile(`^(\S+) - .*"(?:GET|HEAD) /v2/library/`)

// checkAsked: since then the registry was asked for images by that host and by no other.
func (c *cluster) checkAsked(t *testing.T, since int, ip string) {
	t.Helper()
	text, err := os.ReadFile(c.hub.log)
	if err != nil {
		t.Fatal(err)
	}
	asked := false
	for line := range strings.Lines(string(text)) {
		if !accessLine.MatchString(line) {
			continue
		}
		if since--; since >= 0 {
			continue
		}
		if m := asker.FindStringSubmatch(line); m != nil {
			asked = true
			if m[1] != ip {
				t.Errorf("the registry was asked by another host: %s", line)
			}
		}
	}
	if !asked {
		t.Errorf("the registry was not asked, and %s should have done so", ip)
	}
}
