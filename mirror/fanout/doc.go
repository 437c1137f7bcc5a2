// Package fanout makes one reader of the endpoints of an upstream: the places where
// the same registry is reached, in order of preference.
//
// It decides whom to ask, and nothing else: what an answer means to a client is the
// mirror's to say, how an endpoint is reached the endpoint's. An endpoint that does
// not answer is left out until it answers a probe, one that limits requests until it
// may be asked again, and one that answers with errors is asked last.
//
// # Laws
//
//   - An endpoint that nothing comes from costs one ask, then nobody, until it
//     answers again. That is found out behind the clients' backs.
//   - That something is not there is believed only if no endpoint failed to say, those
//     that were not asked included.
//   - An ask is answered, or fails, within the budget, however many endpoints hang.
//   - An answer that nobody wants any more is let go of, and held against nobody.
//   - An endpoint that limits requests gets none before it said that it may be asked.
//   - No stretch of a blob is asked of an endpoint that has no ranges while another
//     one may have them: a byte that is read over is a byte too many.
package fanout
