package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const (
	rulesFile     = "../../deploy/prometheus/rules.yaml"
	ruleTests     = "../../deploy/prometheus/rules_test.yaml"
	dashboardFile = "../../deploy/helm/weir/dashboards/weir.json"
)

// dashboard is what of a Grafana dashboard is looked at.
type dashboard struct {
	Panels []struct {
		Title   string
		Type    string
		GridPos struct{ H, W, X, Y int }
		Targets []struct{ Expr string }
	}
}

func readDashboard(t testing.TB) dashboard {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// names finds the metrics in an expression.
func names(expr string) []string {
	var found []string
	for _, name := range regexp.MustCompile(`\bweir_[a-z_]+`).FindAllString(expr, -1) {
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			if base, cut := strings.CutSuffix(name, suffix); cut && promised[base] != "" {
				name = base
			}
		}
		found = append(found, name)
	}
	return found
}

// TestDashboardAndRulesKnowTheMetrics: each metric that is promised is on the dashboard,
// and neither it nor a rule asks for one that is not.
func TestDashboardAndRulesKnowTheMetrics(t *testing.T) {
	shown := map[string]bool{}
	taken := map[[2]int]string{}
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			for _, name := range names(target.Expr) {
				shown[name] = true
				if promised[name] == "" {
					t.Errorf("panel %q asks for %s", p.Title, name)
				}
			}
		}
		if at := [2]int{p.GridPos.X, p.GridPos.Y}; taken[at] != "" || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %q is where %q is, or beyond the edge", p.Title, taken[at])
		} else {
			taken[at] = p.Title
		}
	}
	for name := range promised {
		if !shown[name] {
			t.Errorf("%s is not on the dashboard", name)
		}
	}
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "description:") {
			continue
		}
		for _, name := range names(line) {
			if promised[name] == "" {
				t.Errorf("a rule asks for %s", name)
			}
		}
	}
}

// promtool runs it, and fails the test with what it says.
func promtool(t testing.TB, stdin string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "promtool", args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %q: %v\n%s", args, err, out)
	}
}

// TestRules: the rules are valid, and each fires when it should and not before.
func TestRules(t *testing.T) {
	promtool(t, "", "check", "rules", rulesFile)
	promtool(t, "", "test", "rules", ruleTests)
	rules, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(ruleTests)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllSubmatch(rules, -1) {
		if !bytes.Contains(tests, []byte("alertname: "+string(m[1])+"\n")) {
			t.Errorf("%s has no test", m[1])
		}
	}
}

// TestRulesOfTheFirst: what an alert counts is 0 in a weir in which nothing has happened. A series
// that begins with 1 has no increase.
func TestRulesOfTheFirst(t *testing.T) {
	data := t.TempDir()
	r := startText(t, data, "log: {format: json}\nserver: {listen: '127.0.0.1:0'}\nadmin: {listen: '127.0.0.1:0'}\nstore: {blobs: {filesystem: {root: '"+data+"'}}}\nevents: [{name: ci, url: 'http://127.0.0.1:1'}]\n")
	shown := r.metrics()
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	counted := regexp.MustCompile(`increase\((weir_\w+)\{(.*?)\}`).FindAllStringSubmatch(string(text), -1)
	if len(counted) < 6 {
		t.Fatalf("the rules count %q", counted)
	}
	for _, c := range counted {
		series := regexp.MustCompile(`(?m)^`+c[1]+`\{.*\} 0$`).FindAllString(shown, -1)
		for _, m := range regexp.MustCompile(`(\w+)=~?"(.*?)"`).FindAllStringSubmatch(c[2], -1) {
			var fit []string
			for value := range strings.SplitSeq(m[2], "|") {
				label, n := fmt.Sprintf("%s=%q", m[1], value), len(fit)
				for _, s := range series {
					if strings.Contains(s, label) {
						fit = append(fit, s)
					}
				}
				if len(fit) == n {
					t.Errorf("of %s there is none with %s that is 0", c[0], label)
				}
			}
			series = fit
		}
	}
}

// TestPrometheus: a real one scrapes a weir, finds nothing wrong with what it is given, and
// evaluates the rules; every panel of the dashboard has data then, and no alert is pending.
func TestPrometheus(t *testing.T) {
	r, _, again := walked(t)
	promtool(t, r.metrics(), "check", "metrics")

	dir := t.TempDir()
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: ['%s']\nscrape_configs: [{job_name: weir, static_configs: [{targets: ['%s']}]}]\n",
		rules, strings.TrimPrefix(r.admin, "http://"))
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	var said bytes.Buffer
	cmd := exec.Command("prometheus", "--config.file="+filepath.Join(dir, "prometheus.yaml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // by that signal
		if t.Failed() {
			t.Log(said.String())
		}
	})
	// query gives the values of an expression; none while there is no answer.
	query := func(expr string) []float64 {
		var answer struct {
			Data struct {
				Result []struct{ Value []any }
			}
			Error string
		}
		api(t, addr, "/api/v1/query?query="+url.QueryEscape(expr), &answer)
		if answer.Error != "" {
			t.Errorf("%s: %s", expr, answer.Error)
		}
		var values []float64
		for _, s := range answer.Data.Result {
			v, err := strconv.ParseFloat(s.Value[1].(string), 64)
			if err != nil {
				t.Error(err)
			}
			values = append(values, v)
		}
		return values
	}
	scraped := func(n int) func() bool {
		return func() bool {
			v := query("sum(count_over_time(up{job='weir'}[1h]))")
			return len(v) == 1 && v[0] >= float64(n)
		}
	}
	eventually(t, "it scrapes", scraped(2))
	again()
	before := query("sum(count_over_time(up{job='weir'}[1h]))")[0]
	eventually(t, "it has scraped what has happened", scraped(int(before)+2))

	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*").Replace(target.Expr)
			values := query(expr)
			// After a scrape that took too long nothing has a value, until the next one.
			for n := 0; n < 5 && len(values) == 0; n++ {
				eventually(t, "it has scraped again", scraped(int(query("sum(count_over_time(up{job='weir'}[1h]))")[0])+1))
				values = query(expr)
			}
			if !slices.ContainsFunc(values, func(v float64) bool { return !math.IsNaN(v) }) {
				t.Errorf("panel %q has no data: %s gives %v", p.Title, expr, values)
			}
		}
	}

	var answer struct {
		Data struct {
			Groups []struct {
				Rules []rule
			}
		}
	}
	evaluated := func() bool {
		api(t, addr, "/api/v1/rules", &answer)
		return len(answer.Data.Groups) == 1 && !slices.ContainsFunc(answer.Data.Groups[0].Rules, func(r rule) bool { return r.Health == "unknown" })
	}
	eventually(t, "the rules are evaluated", evaluated)
	for _, rule := range answer.Data.Groups[0].Rules {
		if rule.Health != "ok" || rule.State != "inactive" {
			t.Errorf("%s is %s and %s: %s", rule.Name, rule.Health, rule.State, rule.LastError)
		}
		// One that asks of nothing is well, too.
		asked := selectors(rule.Query)
		if len(asked) == 0 {
			t.Errorf("%s asks of nothing: %s", rule.Name, rule.Query)
		}
		for _, s := range asked {
			if v := query("count(last_over_time(" + s + "[1h]))"); len(v) != 1 || v[0] == 0 {
				t.Errorf("%s asks of %s, of which there is none", rule.Name, s)
			}
		}
	}
}

// rule is one as Prometheus evaluates it.
type rule struct{ Name, Query, Health, LastError, State string }

// selectors finds those of weir's metrics in an expression. Without what they say of results:
// of those that a rule waits for there may be none yet.
func selectors(expr string) (found []string) {
	for _, m := range regexp.MustCompile(`\b(weir_\w+)(\{(?:[^}"]|"[^"]*")*\})?`).FindAllStringSubmatch(expr, -1) {
		var of []string
		for _, label := range regexp.MustCompile(`(\w+)(?:=~|!~|!=|=)"[^"]*"`).FindAllStringSubmatch(m[2], -1) {
			if label[1] != "result" && label[1] != "status" {
				of = append(of, label[0])
			}
		}
		found = append(found, m[1]+"{"+strings.Join(of, ",")+"}")
	}
	return found
}

// api asks Prometheus; there may be none yet.
func api(t testing.TB, addr, path string, into any) {
	t.Helper()
	resp, err := http.Get("http://" + addr + path)
	if err != nil {
		return
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode == http.StatusServiceUnavailable {
		return
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %d %s", path, resp.StatusCode, b)
	}
}
