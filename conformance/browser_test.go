//go:build browser

package conformance

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// browser is a Chromium that looks at the pages of a weir. What goes wrong in one, a script
// that fails, something that the policy for content stops, a dialog, fails the test.
type browser struct {
	t   *testing.T
	ctx context.Context // the tab: chromedp has it so
	at  string          // the pages

	mu    sync.Mutex
	wrong []string
}

// patience is how long a browser may take for one step on a busy machine.
const patience = 60 * time.Second

func newBrowser(t *testing.T, at string) *browser {
	t.Helper()
	tab, end := chromedp.NewContext(context.Background(), chromedp.WithAllocatorOptions(
		chromedp.ExecPath("chromium"), chromedp.UserDataDir(t.TempDir())))
	t.Cleanup(end)
	b := &browser{t: t, ctx: tab, at: at}
	if err := chromedp.Listen(tab, b.hear); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(tab, log.Enable, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, w := range b.wrong {
			t.Error(w)
		}
	})
	return b
}

// hear takes note of what goes wrong in a page.
func (b *browser) hear(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.saw("exception: %s", e.ExceptionDetails.Text)
	case *log.EventEntryAdded:
		if e.Entry.Level == "error" && e.Entry.Source != "network" { // statuses are looked at by who asks
			b.saw("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *page.EventJavascriptDialogOpening:
		b.saw("dialog: %s", e.Message)
		go func() { _, _ = chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{}) }()
	}
}

func (b *browser) saw(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
}

// step is what a browser does.
type step = chromedp.Action[chromedp.Void]

// run does steps, within the patience that there is.
func (b *browser) run(steps ...step) {
	b.t.Helper()
	ask(b, chromedp.Steps(steps...))
}

// ask does something that has a result.
func ask[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.ctx, patience)
	defer stop()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		at, _ := chromedp.Run(b.ctx, chromedp.Location())
		text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
		b.t.Fatalf("at %s: %v\n%s", at, err, text)
	}
	return result
}

// call sends a command.
func call[P, R any](b *browser, command cdp.Command[P, R], params P) {
	b.t.Helper()
	ask(b, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) })
}

func visible(css string) step { return chromedp.WaitVisible(chromedp.CSS(css)) }

func click(css string) step { return chromedp.Click(chromedp.CSS(css), chromedp.NodeVisible) }

// press clicks on what says just that.
func press(text string) step {
	return chromedp.Click(chromedp.Search(`//*[self::a or self::button][text()="`+text+`"]`), chromedp.NodeVisible)
}

func keys(css, text string) step { return chromedp.SendKeys(chromedp.CSS(css), text) }

// submit sends the form of an element; the page may be gone before it could be told so.
func (b *browser) submit(css string) {
	b.t.Helper()
	ask(b, chromedp.Evaluate[bool](fmt.Sprintf("setTimeout(() => document.querySelector(%q).form.requestSubmit()), true", css)))
}

// open goes to a page.
func (b *browser) open(path string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.at+path), visible("main"))
}

// back is the browser's own button; the page may be gone before it could be told so.
func (b *browser) back() {
	b.t.Helper()
	ask(b, chromedp.Evaluate[bool]("setTimeout(() => history.back()), true"))
}

// says waits until an element says something.
func (b *browser) says(of, what string) {
	b.t.Helper()
	b.until(fmt.Sprintf("(document.querySelector(%q)?.innerText ?? '').includes(%q)", of, what))
}

// tells wants that an expression is a text.
func (b *browser) tells(expression, want string) {
	b.t.Helper()
	if got := ask(b, chromedp.Evaluate[string](expression)); got != want {
		b.t.Errorf("%s is\n%s\nand not\n%s", expression, got, want)
	}
}

// copies wants that the button of the i-th command copies it and says so, where there is a
// clipboard, and where there is none.
func (b *browser) copies(i int, command string) {
	b.t.Helper()
	button := fmt.Sprintf(`document.querySelectorAll("[data-copy]")[%d]`, i)
	ask(b, chromedp.Evaluate[bool](`Object.defineProperty(navigator, "clipboard", {configurable: true, value: {writeText: async (text) => { window.copied = text }}}), true`))
	ask(b, chromedp.Evaluate[bool](button+".click(), true"))
	b.until(button + `.textContent == "Copied"`)
	b.tells("window.copied + getSelection()", command)
	b.until(button + `.textContent == "Copy"`)
	ask(b, chromedp.Evaluate[bool](`Object.defineProperty(navigator, "clipboard", {configurable: true, value: undefined}), window.copied = "", document.execCommand = (what) => { window.copied = what }, true`))
	ask(b, chromedp.Evaluate[bool](button+".click(), true"))
	b.until(button + `.textContent == "Copied"`)
	b.tells(`window.copied + " " + getSelection()`, "copy "+command)
}

// slash is the key as a person presses it: a page that takes it has no character of it, which
// chromedp would send besides.
func (b *browser) slash() {
	b.t.Helper()
	for _, p := range []input.DispatchKeyEventParams{
		{Type: input.DispatchKeyEventTypeKeyDown, Key: "/", Code: "Slash", Text: "/"},
		{Type: input.DispatchKeyEventTypeKeyUp, Key: "/", Code: "Slash"},
	} {
		call(b, input.DispatchKeyEvent, p)
	}
}

// enter is the key; the page may be gone before it comes up again, which is no matter.
func (b *browser) enter() {
	ctx, stop := context.WithTimeout(b.ctx, patience)
	defer stop()
	_, _ = chromedp.Run(ctx, chromedp.KeyEvent(kb.Enter))
}

// until waits until an expression is true, of whichever page there is by then.
func (b *browser) until(expression string) {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.ctx, patience)
	defer stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		// One that is being left has no answer.
		if so, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression)); err == nil && so {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
			b.t.Fatalf("never: %s\n%s", expression, text)
		}
	}
}

// look is how a page is looked at.
type look struct {
	name          string
	scheme        string
	width, height int64
	phone         bool
}

func looks() []look {
	return []look{{"light", "light", 1200, 800, false}, {"dark", "dark", 1200, 800, false}, {"phone", "light", 390, 844, true}}
}

// shoot looks at the page that is open in every way: nobody is kept from reading it, and
// nothing is beside the screen. With SCREENSHOTS it keeps a picture of each.
func (b *browser) shoot(name, axe string) {
	b.t.Helper()
	for _, l := range looks() {
		call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: l.height, DeviceScaleFactor: 1, Mobile: l.phone})
		call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.scheme}}})
		ask(b, chromedp.Evaluate[bool](axe+";true"))
		violations := ask(b, chromedp.Evaluate[string](`axe.run({resultTypes: ["violations"]}).then(r => r.violations.map(v => v.id + ": " + v.nodes.map(n => n.html + " " + n.failureSummary).join("; ")).join("\n"))`, chromedp.EvalAwaitPromise))
		wide := ask(b, chromedp.Evaluate[string](`document.documentElement.scrollWidth > document.documentElement.clientWidth ? "wider than the screen" : ""`))
		if violations != "" || wide != "" {
			b.t.Errorf("%s, %s: %s %s", name, l.name, violations, wide)
		}
		if os.Getenv("SCREENSHOTS") == "" {
			continue
		}
		picture := ask(b, chromedp.FullScreenshot(100))
		file := filepath.Join("..", "ui", "testdata", name+"-"+l.name+".png")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(file, picture, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	call(b, emulation.ClearDeviceMetricsOverride, cdp.Empty{})
}

// TestBrowser looks at every page, and does what people do there: search, delete, watch a
// blob come, sign in by a password and with a provider; what content says is never run.
func TestBrowser(t *testing.T) {
	issuer := startIssuers(t, "provider.mjs").Issuers[0]
	source, err := os.ReadFile(filepath.Join(tool(t, "providers"), "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	axe := string(source)
	up := newSlowUpstream(t)
	w := startWeir(t, t.TempDir(), fmt.Sprintf(`
mirror: {well_known: false, default: docker.io, upstreams: [{name: docker.io, endpoints: [{url: %q}]}]}
authz:
  basic: {users: [{name: ann, hash: %q}]}
  oidc: [{name: corp, issuer: %q, audience: weir, client_id: ui, client_secret: secret, username_claim: email}]
  policy: {allow: ['request.action in ["pull", "list"]', 'identity.authenticated']}
events: [{name: ci, url: %q, events: [push], repositories: [live/*]}]
`, up.URL(), annsHash(), issuer, deaf(t)))
	s := &shop{t: t, base: "http://" + w.addr}
	s.stock()
	b := newBrowser(t, s.base)

	t.Run("pages", func(t *testing.T) {
		b.t = t
		b.open("/")
		b.says("h1", "Repositories")
		b.shoot("repositories", axe)
		b.run(keys("#search", "front"))
		b.until(`document.querySelectorAll("#list tbody tr").length == 1 && location.search == "?search=front"`)
		b.back()
		b.until(`location.search == "" && document.querySelectorAll("header.top + main #list tbody tr").length > 1 && document.querySelector("#search").value == ""`)
		b.open("/ui/repository?name=team/app")
		b.tells(`[...document.querySelectorAll("#list tbody tr")].map(r => [...r.cells].slice(0, 5).map(c => c.innerText.trim().replace(/^(just now|\d+ minutes? ago)$/, "lately")).join(" | ")).sort().join("\n")`,
			"1.0.0 | lately | 1.6 MiB | linux/amd64 linux/arm64 | —\n1.1.0 | lately | 1.6 MiB | linux/amd64 linux/arm64 | —\n"+
				"latest | lately | 1.6 MiB | linux/amd64 linux/arm64 | lately\nold | lately | 1.6 MiB | linux/amd64 linux/arm64 | —")
		b.shoot("repository", axe)
		b.open("/ui/image?name=team/app&tag=latest")
		b.says("main", "linux/arm64")
		at := w.addr + "/team/app:latest"
		b.tells(`[...document.querySelectorAll(".copy code")].map(c => c.innerText).join("\n")`, "docker pull "+at+"\npodman pull "+at+"\nctr images pull "+at)
		b.shoot("index", axe)
		b.copies(1, "podman pull "+at)
		b.run(press("linux/amd64"), visible("#layers"))
		b.says("main", "SBOM (SPDX)")
		b.tells(`document.querySelectorAll("ol.steps li")[2].innerText.replace(/\s+/g, " ").trim()`,
			"RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates tzdata && rm -rf /var/lib/apt/lists/* layer 2 · 1.1 MiB")
		b.tells(`[...document.querySelectorAll("ol.steps li")].map(l => l.querySelector("b").innerText + " " + (l.querySelector("a")?.innerText ?? "")).join(", ")`,
			"ADD layer 1, CMD , RUN layer 2, COPY layer 3, COPY layer 4, USER , ENTRYPOINT ")
		b.tells(`[...document.querySelectorAll("svg.bar rect")].map(r => r.textContent).join(", ")`, "Layer 1: 293.0 KiB, Layer 2: 1.1 MiB, Layer 3: 39.1 KiB, Layer 4: 87.9 KiB")
		b.tells(`[...document.querySelectorAll("svg.bar rect")].map(r => Math.round(r.getAttribute("width") / 100)).join(" ")`, "2 7 0 1")
		b.run(press("layer 2"))
		b.until(`location.hash == "#layer-2" && document.querySelector(":target").innerText.includes("1.1 MiB")`)
		b.shoot("image", axe)
		b.open("/ui/why?image=team/app:latest")
		b.says("main", "pushed here")
		b.shoot("why", axe)
		b.open("/ui/me?repository=team/app")
		b.says("main", "may not push")
		b.shoot("me", axe)
		b.open("/ui/login")
		b.shoot("login", axe)
		b.open("/ui/nothing")
		b.says("h1", "Not found")
		b.shoot("error", axe)
		b.open("/ui/config")
		b.says("h1", "Sign in to see this")
	})

	t.Run("keyboard", func(t *testing.T) {
		b.t = t
		b.open("/ui/")
		b.run(chromedp.KeyEvent(kb.Tab))
		b.until(`document.activeElement.innerText == "Skip to content" && document.activeElement.getBoundingClientRect().left >= 0`)
		b.run(chromedp.KeyEvent(kb.Enter))
		b.until(`document.activeElement.id == "main"`)
		b.slash()
		b.until(`document.activeElement.id == "search" && document.activeElement.value == ""`)
		b.run(chromedp.KeyEvent("team/app"))
		b.until(`document.querySelectorAll("#list tbody tr").length == 1`)
		b.run(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab))
		b.until(`document.activeElement.innerText == "team/app"`)
		b.enter()
		b.says("h1", "team/app")
	})

	t.Run("fill", func(t *testing.T) {
		b.t = t
		s.beBusy(up)
		b.open("/ui/activity")
		// Of the three requests the last one needed nothing of the upstream's.
		b.tells(`document.querySelector("[data-label='Hits, 24 h']").innerText.trim()`, "33 % of 3")
		b.tells(`document.querySelector("[data-label='Saved, 24 h']").innerText.replace(/\d/g, "9").trim()`, "9.9 MiB of 9.9 MiB")
		b.tells(`[...document.querySelectorAll("svg.plot title")].map(t => t.textContent.replace(/: [\d.]+ MiB/, "")).join(", ")`, "Hit ratio of docker.io over 24 hours: 33 % of 3 requests, Bytes saved of docker.io over 24 hours")
		b.tells(`[...document.querySelectorAll("svg.plot .line")].map(p => /^M[\d.]+ [\d.]+ L/.test(p.getAttribute("d"))).join()`, "true,true")
		b.says(".endpoint", "76 of 100 requests left")
		b.tells(`[...document.querySelectorAll("section[aria-labelledby=uploads] tbody tr")].map(r => r.cells[0].innerText + " " + r.cells[1].innerText).join()`, "live/upload 5 B")
		b.tells(`document.querySelector("section[aria-labelledby=events] tbody tr").innerText.replace(/\s+/g, " ").replace(/just now|\d+ minutes? ago/, "lately").replace(/\d+ attempts?/, "some attempts")`,
			"io.weir.manifest.push live/app:v1 lately ci pending some attempts: answered 503")
		b.says("section[aria-labelledby=cache]", "are free on the disk")
		b.says("section[aria-labelledby=replica]", "This is the only one.")
		gate := up.hold()
		defer gate.Open()
		got := make(chan error, 1)
		go func() { got <- s.pull(up.layer()) }()
		b.open("/ui/activity")
		b.until(`Number(document.querySelector("progress")?.value) > 0`)
		b.says(".fills", "1 follower")
		b.shoot("activity", axe)
		gate.Open()
		if err := <-got; err != nil {
			t.Error(err)
		}
		b.until(`!document.querySelector("progress")`)
		b.says("main", "Nothing at the moment")
	})

	t.Run("delete", func(t *testing.T) {
		b.t = t
		b.open("/ui/login?to=/ui/image%3Fname%3Dteam%2Fapp%26tag%3Dold")
		b.run(keys("#username", "ann"), keys("#password", "wrong"))
		b.submit("#password")
		b.says(".wrong", "not known here")
		b.run(keys("#password", "secret"))
		b.submit("#password")
		b.says("nav", "ann")
		b.says("h1", "old")
		cookie := b.session()
		for _, c := range []struct {
			method, path, header, value string
			status                      int
		}{
			{http.MethodDelete, "/v2/team/app/manifests/old", "Cookie", cookie, http.StatusUnauthorized},
			{http.MethodPost, "/ui/delete", "Sec-Fetch-Site", "cross-site", http.StatusForbidden},
			{http.MethodPost, "/ui/delete", "Origin", "https://evil.example", http.StatusForbidden},
			{http.MethodPost, "/ui/login", "Sec-Fetch-Site", "cross-site", http.StatusForbidden},
		} {
			if status := s.send(c.method, c.path, url.Values{"name": {"team/app"}, "tag": {"old"}}.Encode(), "Cookie", cookie, c.header, c.value); status != c.status {
				t.Errorf("%s %s with %s: %d", c.method, c.path, c.header, status)
			}
		}
		b.run(press("Delete…"), visible("button.danger"))
		b.shoot("delete", axe)
		if status := s.send(http.MethodHead, "/v2/team/app/manifests/old", ""); status != http.StatusOK {
			t.Errorf("before: %d", status)
		}
		b.run(click("button.danger"))
		b.says("h1", "team/app")
		if status := s.send(http.MethodHead, "/v2/team/app/manifests/old", ""); status != http.StatusNotFound {
			t.Errorf("after: %d", status)
		}
		b.open("/ui/config")
		b.says("pre", "client_secret: <redacted>")
		b.shoot("config", axe)
		b.run(press("Sign out"))
		b.until(`[...document.querySelectorAll("nav a")].some(a => a.innerText == "Sign in")`)
	})

	t.Run("provider", func(t *testing.T) {
		b.t = t
		b.signIn("bob")
		b.says("main", "oidc:corp:bob")
		b.says("nav", "bob@corp.example")
	})

	t.Run("text", func(t *testing.T) {
		b.t = t
		for i, text := range evils() {
			repo := fmt.Sprintf("evil/app%d", i)
			s.stockEvil(up, repo, text)
			q := url.QueryEscape(text)
			for _, path := range []string{
				"/ui/repository?name=" + repo, "/ui/image?name=" + repo + "&tag=index", "/ui/image?name=" + repo + "&tag=image", "/ui/image?name=" + repo + "&tag=types",
				"/ui/repository?name=docker.io/" + repo, "/ui/image?name=docker.io/" + repo + "&tag=v1",
				"/ui/?search=" + q, "/ui/repository?name=" + repo + "&search=" + q, "/ui/repository?name=" + q, "/ui/image?name=" + repo + "&tag=" + q,
				"/ui/why?image=" + q, "/ui/me?repository=" + q, "/ui/login?to=" + q,
			} {
				b.open(path)
				b.isText(path)
			}
		}
		// It is shown, as text.
		for _, path := range []string{"/ui/image?name=evil/app0&tag=image", "/ui/image?name=evil/app0&tag=types", "/ui/image?name=docker.io/evil/app0&tag=v1"} {
			b.open(path)
			b.says("main", "<script>")
		}
		b.open("/ui/activity")
		b.isText("/ui/activity")
		// Whoever signs in may be called so.
		call(b, storage.ClearCookies, storage.ClearCookiesParams{})
		b.signIn(evil)
		b.says("main", "oidc:corp:"+evil)
		b.says("nav", evil+"@corp.example")
		b.isText("/ui/me")
	})
}

// signIn signs somebody in with the provider, and goes to what they may do.
func (b *browser) signIn(name string) {
	b.t.Helper()
	b.open("/ui/login?to=/ui/me")
	b.run(press("Sign in with corp"), visible("input[name=login]"))
	b.run(keys("input[name=login]", name), keys("input[name=password]", "x"))
	b.submit("input[name=login]")
	b.until(`!!document.querySelector("form input[name=prompt][value=consent]")`)
	b.submit("input[name=prompt]")
	b.until(`location.pathname == "/ui/me" && !!document.querySelector("main")`)
}

// isText wants that the page that is open has no element, attribute or address of what
// content says, and has run none of it; a dialog fails the test by itself.
func (b *browser) isText(path string) {
	b.t.Helper()
	if found := ask(b, chromedp.Evaluate[string](`("ran" in window ? "it was run " : "") + [...document.querySelectorAll(
		"main script, nav script, img, iframe, b[id], [onload], [onerror], [onmouseover], [href^='javascript:' i], [href^='//'], [action^='//'], [src^='//']")].map(e => e.outerHTML).join(" ")`)); found != "" {
		b.t.Errorf("%s: what content says is more than text: %s", path, found)
	}
}

// session gives the cookies of whoever is signed in, as a header.
func (b *browser) session() string {
	b.t.Helper()
	var parts []string
	all := ask(b, func(ctx context.Context, t *chromedp.Target) (storage.GetCookiesResult, error) {
		return cdp.Call(ctx, t, storage.GetCookies, storage.GetCookiesParams{})
	})
	for _, c := range all.Cookies {
		parts = append(parts, c.Name+"="+c.Value)
	}
	if len(parts) == 0 {
		b.t.Error("there is no session")
	}
	return strings.Join(parts, "; ")
}
