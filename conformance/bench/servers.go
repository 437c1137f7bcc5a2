package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Names of the servers, as they head the columns of the table.
const (
	weir           = "weir"
	distribution   = "distribution v3"
	dockerRegistry = "docker-registry"
	olareg         = "olareg"
	nginx          = "nginx"
	zot            = "zot"         // has goals, is not to be had
	direct         = "direct"      // with a token in hand: nobody can be faster
	directAnew     = "direct anew" // as clients begin a pull: without one
)

// A place is where one run of a server lives.
type place struct {
	dir      string // for its data, and its own
	addr     string // host:port that it listens on
	admin    string // the same for its operator, where it has such a listener
	upstream string // URL that it mirrors; "" for none
	second   string // URL where that is reached too; "" for none
	ttl      time.Duration
}

// A server is a way to run a program.
type server struct {
	name    string
	tool    string // what tools.sh calls it, or "" for a command or a path
	program string // how to run it
	mirrors string // where what it mirrors appears: a prefix of repositories
	env     []string
	config  func(place) string // text of its configuration file
	argv    func(p place, config string) []string
}

// upstreamName is what weir calls the upstream. It is not the host's name, which no
// part of a mirrored name needs to be.
const upstreamName = "upstream.test"

// allServers gives what is measured, ours last; binary is weir. The first two are no
// servers: the same is asked of the upstream itself.
func allServers(binary string) []server {
	serve := func(_ place, config string) []string { return []string{"serve", config} }
	return []server{
		{name: direct},
		{name: directAnew},
		{
			name: distribution, tool: "registry", config: distributionConfig, argv: serve,
			// It would look for a collector of traces otherwise.
			env: []string{"OTEL_TRACES_EXPORTER=none"},
		},
		{name: dockerRegistry, program: "docker-registry", config: distributionConfig, argv: serve},
		{name: olareg, tool: "olareg", argv: olaregArgs},
		{name: nginx, program: "nginx", config: nginxConfig, argv: func(_ place, config string) []string { return []string{"-c", config} }},
		{
			name: weir, program: binary, mirrors: upstreamName + "/", config: weirConfig,
			argv: func(_ place, config string) []string { return []string{"serve", "--config", config} },
		},
	}
}

// locate gives the absolute path of a server's program; tools is tools.sh.
func locate(ctx context.Context, s server, tools string) (string, error) {
	if s.name == direct || s.name == directAnew {
		return "", nil
	}
	if s.tool == "" {
		found, err := exec.LookPath(s.program)
		if err != nil && !filepath.IsAbs(s.program) {
			// Debian keeps servers where only root looks.
			found, err = exec.LookPath(filepath.Join("/usr/sbin", s.program))
		}
		return found, err
	}
	out, err := exec.CommandContext(ctx, tools, s.tool).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("%s %s: %w: %s", tools, s.tool, err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// weirConfig leaves all that is not about where to be at its default: the access
// log is written, and nothing is tuned.
func weirConfig(p place) string {
	text := fmt.Sprintf(`log: {format: json}
server: {listen: %q}
admin: {listen: %q}
store: {blobs: {filesystem: {root: %q}}}
`, p.addr, p.admin, filepath.Join(p.dir, "data"))
	if p.upstream == "" {
		return text
	}
	tags := ""
	if p.ttl > 0 {
		tags = fmt.Sprintf("\n      tags: {ttl: %s}", p.ttl)
	}
	endpoints := fmt.Sprintf("{url: %q}", p.upstream)
	if p.second != "" {
		endpoints += fmt.Sprintf(", {url: %q}", p.second)
	}
	return text + fmt.Sprintf(`mirror:
  well_known: false
  upstreams:
    - name: %s
      endpoints: [%s]%s
`, upstreamName, endpoints, tags)
}

// distributionConfig is what Debian ships, less its authentication; version 3 reads
// it too.
func distributionConfig(p place) string {
	text := fmt.Sprintf(`version: 0.1
log: {fields: {service: registry}}
storage:
  cache: {blobdescriptor: inmemory}
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
http: {addr: %q}
`, filepath.Join(p.dir, "data"), p.addr)
	if p.upstream != "" {
		text += fmt.Sprintf("proxy: {remoteurl: %q}\n", p.upstream)
	}
	return text
}

func olaregArgs(p place, _ string) []string {
	host, port, _ := net.SplitHostPort(p.addr)
	return []string{"serve", "--addr", host, "--port", port, "--dir", filepath.Join(p.dir, "data")}
}

// nginxConfig serves the files below data with the access log that it has by default.
func nginxConfig(p place) string {
	// Its workers would be somebody else, who may not read here.
	return fmt.Sprintf(`daemon off;
user root;
worker_processes 2;
pid %[1]s/nginx.pid;
error_log stderr;
events { worker_connections 1024; }
http {
  access_log %[1]s/access.log;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  default_type application/octet-stream;
  client_body_temp_path %[1]s/client_body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  server {
    listen %[2]s;
    root %[1]s/data;
    location ~ /manifests/ { default_type %[3]s; }
  }
}
`, p.dir, p.addr, manifestType)
}
