package ui

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
)

// largestForm is the largest body of a POST, in bytes: a password may be a token.
const largestForm = 64 << 10

type loginPage struct {
	Password  bool
	Providers []string
	Username  string
	To        string
	Wrong     string
}

func (u *UI) loginPage(to string) loginPage {
	p := loginPage{Password: u.opts.SignIn.Password != nil, To: inside(to)}
	for _, provider := range u.opts.SignIn.Providers {
		p.Providers = append(p.Providers, provider.Name())
	}
	return p
}

// inside is a page of ours, whatever is asked for: nobody is sent elsewhere.
func inside(to string) string {
	if !strings.HasPrefix(to, Root) || strings.ContainsAny(to, "\\\r\n\t") || strings.Contains(to, "//") || strings.HasPrefix(to, Root+"log") {
		return Root
	}
	return to
}

// login shows how to sign in.
func (u *UI) login(w http.ResponseWriter, r *http.Request) error {
	if !u.opts.SignIn.possible() {
		return origin.Errorf(origin.ErrNameUnknown, "nobody signs in here")
	}
	return u.render(w, r, http.StatusOK, "login.html", "Sign in", "", u.loginPage(r.FormValue("to")))
}

// logIn signs somebody in by a password.
func (u *UI) logIn(w http.ResponseWriter, r *http.Request) error {
	if u.opts.SignIn.Password == nil {
		return origin.Errorf(origin.ErrNameUnknown, "nobody signs in here by a password")
	}
	r.Body = http.MaxBytesReader(w, r.Body, largestForm)
	if err := r.ParseForm(); err != nil {
		return origin.Errorf(origin.ErrUnsupported, "not a form").WithStatus(http.StatusBadRequest)
	}
	p := u.loginPage(r.PostFormValue("to"))
	p.Username = r.PostFormValue("username")
	shown := r.Clone(r.Context()) // with what proxies say of where it comes from
	shown.SetBasicAuth(p.Username, r.PostFormValue("password"))
	who, stamp, err := u.byPassword(shown)
	u.attempted(who, "basic", err)
	switch {
	case errors.Is(err, authz.ErrUnavailable):
		w.Header().Set("Retry-After", "1")
		return origin.Wrap(origin.Errorf(origin.ErrUnavailable, "who you are cannot be checked now: try again in a moment"), err)
	case err != nil:
		p.Wrong = "This name and password are not known here."
		return u.render(w, r, http.StatusUnauthorized, "login.html", "Sign in", "", p)
	}
	if err := u.sessions.begin(w, r, who, stamp); err != nil {
		return err
	}
	http.Redirect(w, r, p.To, http.StatusSeeOther)
	return nil
}

// byPassword finds whose a password is, and the stamp of their session. It is accepted once more
// behind the stamp: the users may have changed while it was checked, and a password that
// was replaced must not have its successor's.
func (u *UI) byPassword(shown *http.Request) (who authz.Identity, stamp string, err error) {
	accept := func() (authz.Identity, error) {
		who, err := authz.Chain{u.opts.SignIn.Password}.Authenticate(shown)
		if err == nil && who.Scope != nil { // a token that is good for some things
			err = authz.ErrRejected
		}
		return who, err
	}
	if who, err = accept(); err != nil {
		return who, "", err
	}
	stamp, _ = u.sessions.stamp(who)
	again, err := accept()
	if err == nil && again.ID != who.ID {
		err = authz.ErrRejected
	}
	return who, stamp, err
}

func (u *UI) attempted(who authz.Identity, method string, err error) {
	tell := u.opts.SignIn.Attempted
	switch {
	case tell == nil:
	case err == nil:
		tell(string(who.Method), "accepted")
	case errors.Is(err, authz.ErrUnavailable):
		tell(method, "error")
	default:
		tell(method, "rejected")
	}
}

// logOut signs somebody out.
func (u *UI) logOut(w http.ResponseWriter, r *http.Request) error {
	if err := u.sessions.end(w, r); err != nil {
		return err
	}
	http.Redirect(w, r, Root, http.StatusSeeOther)
	return nil
}

// attempt is what a browser keeps while it is at a provider.
type attempt struct {
	Provider string    `json:"provider"`
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"`
	To       string    `json:"to"`
	Until    time.Time `json:"until"`
}

func (u *UI) provider(name string) (Provider, error) {
	i := slices.IndexFunc(u.opts.SignIn.Providers, func(p Provider) bool { return p.Name() == name })
	if i < 0 {
		return nil, origin.Errorf(origin.ErrNameUnknown, "no provider of that name signs anybody in here")
	}
	return u.opts.SignIn.Providers[i], nil
}

// toProvider sends the browser to a provider. What it keeps meanwhile it shows when it comes
// back, which is a page of another site that leads it: so that cookie is Lax, for the one
// page alone, and worth nothing by itself.
func (u *UI) toProvider(w http.ResponseWriter, r *http.Request) error {
	p, err := u.provider(r.FormValue("name"))
	if err != nil {
		return err
	}
	is := attempt{
		Provider: p.Name(), State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text(),
		To: inside(r.FormValue("to")), Until: time.Now().Add(loginLife),
	}
	to, err := p.Begin(r.Context(), base(r)+loginPath, is.State, is.Nonce, is.Verifier)
	if err != nil {
		return origin.Wrap(origin.Errorf(origin.ErrUnavailable, "the provider cannot be reached now: try again in a moment"), err)
	}
	value, err := u.sessions.seal(r.Context(), loginCookie, is)
	if err != nil {
		return err
	}
	put(w, r, http.Cookie{Name: loginCookie, Value: value, Path: loginPath, MaxAge: int(loginLife / time.Second), SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// fromProvider signs in whoever comes back.
func (u *UI) fromProvider(w http.ResponseWriter, r *http.Request) error {
	var is attempt
	kept, err := r.Cookie(loginCookie)
	if err == nil {
		err = u.sessions.open(r.Context(), loginCookie, kept.Value, &is)
	}
	if err != nil || !time.Now().Before(is.Until) || subtle.ConstantTimeCompare([]byte(r.FormValue("state")), []byte(is.State)) == 0 {
		return origin.Errorf(origin.ErrDenied, "this browser did not begin to sign in here, or took too long: begin again")
	}
	drop(w, r, loginCookie, loginPath)
	p, err := u.provider(is.Provider)
	if err != nil {
		return err
	}
	// With several providers, one could have the browser bring it another's code (RFC 9207).
	if iss := r.FormValue("iss"); iss != "" && iss != p.Issuer() {
		u.attempted(authz.Identity{}, "oidc", authz.ErrRejected)
		return origin.Errorf(origin.ErrDenied, "another provider than the one that was asked has answered: begin again")
	}
	if said := r.FormValue("error"); said != "" {
		u.attempted(authz.Identity{}, "oidc", authz.ErrRejected)
		return origin.Errorf(origin.ErrDenied, "the provider did not sign you in: %s", origin.Quote(said))
	}
	who, err := p.Finish(r.Context(), base(r)+loginPath, r.FormValue("code"), is.Nonce, is.Verifier)
	u.attempted(who, "oidc", err)
	if err != nil {
		u.opts.Log.Log(r.Context(), guard.Level(err), "not signed in", "provider", is.Provider, "error", err.Error(), "trace_id", origin.RequestOf(r.Context()).ID)
	}
	switch {
	case errors.Is(err, authz.ErrUnavailable):
		return origin.Wrap(origin.Errorf(origin.ErrUnavailable, "the provider cannot be asked now: try again in a moment"), err)
	case err != nil:
		return origin.Wrap(origin.Errorf(origin.ErrDenied, "what the provider says of you is not accepted here"), err)
	}
	stamp, _ := u.sessions.stamp(who)
	if err := u.sessions.begin(w, r, who, stamp); err != nil {
		return err
	}
	// The other site has led here: a browser shows the new cookie to a page that this one
	// leads to, and not to one that this answer redirects to.
	return u.render(w, r, http.StatusOK, "landed.html", "Signed in", "", is.To)
}
