package client

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// everything is the directory that containerd looks in for hosts that have none.
const everything = "_default"

// Version is a version of containerd, as far as its files depend on it. The zero
// Version is unknown, and as careful as the oldest.
type Version struct{ Major, Minor int }

// ParseVersion reads the beginning of a version: "2.2", "v2.2.1", "1.6.20~ds1".
func ParseVersion(s string) (Version, error) {
	m := regexp.MustCompile(`^v?(\d{1,4})\.(\d{1,4})(\D|$)`).FindStringSubmatch(s)
	if m == nil {
		return Version{}, fmt.Errorf("%q is no version: write one such as 2.2", s)
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	return Version{major, minor}, nil
}

// capabilities are what containerd of that version may ask weir for. Older ones
// refuse a file with a word that they do not know; newer ones ask the registry
// itself for referrers unless that word is there.
func (v Version) capabilities() string {
	if v.Major > 2 || v.Major == 2 && v.Minor >= 2 {
		return `["pull", "resolve", "referrers"]`
	}
	return `["pull", "resolve"]`
}

// Containerd is the hosts.toml that leads pulls of the upstream through the mirror.
// The upstream "" stands for each that has no hosts.toml of its own.
func Containerd(m Mirror, v Version, upstream string) File {
	host := fmt.Sprintf("[host.%q]\n  capabilities = %s\n", m.URL.String(), v.capabilities())
	f := File{Name: everything + "/hosts.toml", take: takeBlocks}
	if upstream != "" {
		f.Name = hostDirectory(upstream) + "/hosts.toml"
	}
	f.put = func(text []byte) ([]byte, error) {
		rest, err := withoutBlocks(string(text))
		if err != nil {
			return nil, err
		}
		tables := tablesOf(rest)
		content := host
		if _, has := tables[0].values["server"]; !has && upstream != "" {
			content = fmt.Sprintf("server = %q\n\n", server(upstream)) + content
		}
		for _, t := range tables[1:] {
			if strings.TrimRight(unquoted(t.header), "/") == "host."+m.URL.String() {
				return nil, fmt.Errorf("it has [%s] already, and not from here: take that out first", t.header)
			}
		}
		// Before all other hosts, for they are asked in the order of the file; and
		// before any table, for server is a key of the file's top.
		return []byte(insert(rest, tables[0].end, content)), nil
	}
	return f
}

func unquoted(header string) string {
	return strings.Map(func(c rune) rune {
		if strings.ContainsRune("\"' \t", c) {
			return -1
		}
		return c
	}, header)
}

func takeBlocks(text []byte) ([]byte, error) {
	rest, err := withoutBlocks(string(text))
	return []byte(rest), err
}

// hostDirectory is where containerd looks first for the host: a port has an
// underscore on either side.
func hostDirectory(host string) string {
	if name, port, ok := strings.Cut(host, ":"); ok {
		return name + "_" + port + "_"
	}
	return host
}

// ContainerdIn are the files below dir that weir has a part in, fit for Remove.
func ContainerdIn(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var files []File
	for _, e := range entries {
		name := e.Name() + "/hosts.toml"
		text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err == nil && bytes.Contains(text, []byte(beginMark)) {
			files = append(files, File{Name: name, take: takeBlocks})
		}
	}
	return files, nil
}

// ReadsHosts reports whether containerd with this config.toml reads hosts.toml
// files for Kubernetes: whether its image service has a config_path.
func ReadsHosts(configTOML []byte) bool {
	for _, t := range tablesOf(string(configTOML)) {
		header := unquoted(t.header)
		if !strings.Contains(header, "io.containerd.grpc.v1.cri") && !strings.Contains(header, "io.containerd.cri.v1.images") {
			continue
		}
		if strings.HasSuffix(header, ".registry") && t.values["config_path"] != "" || t.values["registry.config_path"] != "" {
			return true
		}
	}
	return false
}
