// Package policy decides by rules: expressions of CEL (cel.dev), written by an
// operator for all repositories, and for some.
//
// A [Rule] sees two variables. identity says who asks: authenticated, id, username,
// groups, client_ip, method, certificate (common_name, organizations, dns_names, uris)
// and oidc (provider, subject, claims). request says what is asked for: action,
// operation, repository, upstream, tag, digest, from, artifact_type, media_type, size
// and time. A field that says nothing is empty, as in a protocol buffer: has() tells
// whether somebody has a certificate, and its common_name is "" if not. Only claims
// are whatever a provider says.
//
// A [Policy] is an authz.Authorizer: nothing that a deny rule matches, and what an
// allow rule matches or the default allows, by the rules for all and by those for the
// repository; then the webhook is asked, if there is one.
//
// # Laws
//
//   - A rule that does not compile, names a field that there is not, or can never be
//     true or false is an error when it is parsed, and no later.
//   - A rule that fails never grants: an allow rule is passed over, a deny rule has
//     matched. Both are logged.
//   - A rule sees plain maps, lists and texts, never a Go value of ours.
//   - What a rule costs has a bound, whatever it is asked about, and so has what all of
//     them cost that one decision asks. It is counted, patterns by their programs and texts.
//   - A decision is kept under everything that it was made of. One in which a rule
//     failed, or which depends on the time, is not kept.
//
// It refuses to know what a pattern of repositories is, and how a webhook is asked:
// it is given functions for both.
package policy
