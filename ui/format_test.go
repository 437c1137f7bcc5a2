package ui

import (
	"testing"

	"github.com/weir-registry/weir/ui/view"
)

// A step is what stood in the Dockerfile, however what built it has written that down; what
// was in none is shown as it is.
func TestStepOf(t *testing.T) {
	for by, want := range map[string]step{
		"/bin/sh -c #(nop) ADD file:3f9a in / ":      {"ADD", "file:3f9a in /"},
		`/bin/sh -c #(nop)  CMD ["bash"]`:            {"CMD", `["bash"]`},
		"/bin/sh -c apt-get update":                  {"RUN", "apt-get update"},
		"RUN /bin/sh -c apt-get update # buildkit":   {"RUN", "apt-get update"},
		"RUN |1 V=1 /bin/sh -c make # buildkit":      {"RUN", "|1 V=1 /bin/sh -c make"},
		"RUN useradd app":                            {"RUN", "useradd app"},
		"COPY app /usr/local/bin/app # buildkit":     {"COPY", "app /usr/local/bin/app"},
		"  USER 65532\n":                             {"USER", "65532"},
		"# debian.sh --arch 'amd64' out/ 'trixie'":   {"", "# debian.sh --arch 'amd64' out/ 'trixie'"},
		"bazel build ...":                            {"", "bazel build ..."},
		"Run make":                                   {"", "Run make"},
		"<SCRIPT> alert(1)":                          {"", "<SCRIPT> alert(1)"},
		"buildkit.exporter.image.v0 # not a comment": {"", "buildkit.exporter.image.v0 # not a comment"},
		"WORKDIR": {"WORKDIR", ""},
		"":        {},
	} {
		if got := stepOf(view.Step{CreatedBy: by}); got != want {
			t.Errorf("%q is %q %q, not %q %q", by, got.Instruction, got.Rest, want.Instruction, want.Rest)
		}
	}
}
