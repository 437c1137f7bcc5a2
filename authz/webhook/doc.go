// Package webhook has somebody else decide: it asks an address over HTTP.
//
// The question is a POST of {"identity": …, "request": …}, as rules see them
// ([authz.Identity.Plain], [authz.Access.Plain]). The answer is its status: 2xx allows,
// 401 and 403 deny. Whatever else comes, or does not come in time, denies too, and is
// no answer.
//
// # Laws
//
//   - Only a yes allows. A redirect, an error, silence, an answer of more than 64 KiB,
//     a 429 or a 5xx deny.
//   - Answers are kept for a while, under all of the question but its time; what is no
//     answer is not. How many are kept has a bound.
//   - A question is asked once, however many ask it at the same time, and its asker may
//     leave without the others losing the answer.
//   - Nobody waits longer than the timeout, from the first byte to the last.
//
// It refuses to open connections: it is given an http.RoundTripper, which says where
// requests may go and which certificates are believed.
package webhook
