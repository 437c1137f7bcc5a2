package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/weir-registry/weir/authz/policy"
	"github.com/weir-registry/weir/origin"
)

// Policy is what is allowed and what is not.
type Policy struct {
	// Default is what holds where no rule decides: allow, deny, or "": for all
	// repositories, deny if there are rules that allow, and what holds without any
	// rule if not; for some, allow.
	Default policy.Default `yaml:"default"`
	// Allow and Deny are rules in CEL. What one of Deny matches is denied whatever Allow
	// says.
	Allow []policy.Rule `yaml:"allow"`
	Deny  []policy.Rule `yaml:"deny"`
}

// Rules are what decides by them.
func (p Policy) Rules() policy.Rules {
	return policy.Rules{Default: p.Default, Allow: p.Allow, Deny: p.Deny}
}

// Webhook is somebody else who is asked.
type Webhook struct {
	Name string `yaml:"name"`
	// URL is what questions are sent to. A user and a password in it are Username and
	// Password.
	URL WebhookURL `yaml:"url"`
	// Timeout is for the whole of an answer.
	Timeout Duration `yaml:"timeout"`
	// CacheTTL is how long an answer holds; 0: it does not.
	CacheTTL Duration `yaml:"cache_ttl"`
	// BearerToken, or Username and Password, say who asks.
	BearerToken Secret `yaml:"bearer_token"`
	Username    string `yaml:"username"`
	Password    Secret `yaml:"password"`
	// CA is a PEM file of the authorities that are believed besides the system's.
	CA string `yaml:"ca"`
	// Certificate and Key are PEM files that identify weir there: both or neither.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// setDefaults makes w a webhook that says nothing but its name.
func (w *Webhook) setDefaults() {
	w.Timeout = Duration(2 * time.Second)
	w.CacheTTL = Duration(time.Minute)
}

// WebhookURL is a URL whose path stays as it was written, slash at its end included.
// With a user and a password in it, as that is written elsewhere, these leave it when
// the configuration is complete: a URL is printed, and they are not.
type WebhookURL struct {
	URL
	user     bool
	username string
	password Secret
}

// UnmarshalText implements [encoding.TextUnmarshaler]. What it complains of it does not
// repeat, for there may be a password in it.
func (u *WebhookURL) UnmarshalText(text []byte) error {
	var w WebhookURL
	bare, err := url.Parse(string(text))
	if err == nil && bare.User != nil {
		password, _ := bare.User.Password()
		w.user, w.username, w.password = true, bare.User.Username(), NewSecret(password)
		bare.User = nil
		text = []byte(bare.String())
	}
	if err := w.URL.UnmarshalText(text); err != nil {
		return err
	}
	if bare != nil {
		w.Path, w.RawPath = bare.Path, bare.RawPath
	}
	*u = w
	return nil
}

// completeWebhooks takes the users out of URLs.
func (c *Config) completeWebhooks() {
	for i := range c.Authz.Webhooks {
		if w := &c.Authz.Webhooks[i]; w.URL.user && w.Username == "" && w.Password.IsZero() {
			w.Username, w.Password = w.URL.username, w.URL.password
			w.URL.user, w.URL.username, w.URL.password = false, "", Secret{}
		}
	}
}

func (v *validator) webhooks(c *Config) {
	var names []string
	for i, w := range c.Authz.Webhooks {
		path := fmt.Sprintf("authz.webhooks[%d]", i)
		switch {
		case w.Name == "":
			v.fail(path, "has no name: give what authz.webhook and repositories call it by")
		case w.Name == policy.None:
			v.fail(path+".name", "is none, which is the name of no webhook")
		case slices.Contains(names, w.Name):
			v.fail(path+".name", "is %s once more", origin.Quote(w.Name))
		default:
			names = append(names, w.Name)
		}
		v.webhook(w, path)
	}
	v.asked("authz.webhook", c.Authz.Webhook, names)
	for i, r := range c.Repositories {
		v.asked(fmt.Sprintf("repositories[%d].webhook", i), r.Webhook, names)
	}
}

// asked examines the name of a webhook.
func (v *validator) asked(path, name string, names []string) {
	if name == "" || name == policy.None || slices.Contains(names, name) {
		return
	}
	known := "authz.webhooks is empty"
	if len(names) > 0 {
		known = "known are " + strings.Join(names, ", ")
	}
	if near, ok := nearest(name, append(slices.Clone(names), policy.None)); ok {
		known = fmt.Sprintf("did you mean %q?", near)
	}
	v.fail(path, "is %s, which is no webhook: %s", origin.Quote(name), known)
}

func (v *validator) webhook(w Webhook, path string) {
	if w.URL.IsZero() {
		v.fail(path, "has no url")
	}
	v.positive(path+".timeout", w.Timeout)
	basic := w.Username != "" || !w.Password.IsZero()
	switch {
	case w.URL.user:
		v.fail(path+".url", "has a user in it, and there is a username or a password: keep one")
	case basic && !w.BearerToken.IsZero():
		v.fail(path, "has a bearer_token, and a username or a password: keep one")
	case w.Username == "" && basic:
		v.fail(path, "has a password and no username")
	case w.Password.IsZero() && basic:
		v.fail(path, "has a username and no password")
	case strings.Contains(w.Username, ":"):
		v.fail(path+".username", "has a colon in it, which no user name has")
	}
	for key, secret := range map[string]Secret{"bearer_token_file": w.BearerToken, "password_file": w.Password} {
		if file := secret.File(); file != "" {
			v.readable(path+"."+key, file)
		}
	}
	if w.CA != "" {
		v.authorities(path+".ca", w.CA)
	}
	v.pair(path, w.Certificate, w.Key)
}
