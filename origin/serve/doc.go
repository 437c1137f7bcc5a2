// Package serve turns an [origin.Registry] into an [http.Handler] that speaks the
// OCI Distribution specification 1.1, and from its main branch the ns parameter
// with OCI-Namespace, the tag parameter of manifest pushes with OCI-Tag, and
// digest-algorithm.
//
// It refuses to know what stands behind the registry: rights, mirroring, metrics
// and logs are decorators of the registry or of the handler. It holds no state
// between requests; an upload's state is the registry's.
//
// # Laws
//
//   - One parser, [Parse], decides what a request is about. Routing, naming and the
//     registry consume its typed result; nobody looks at the path again.
//   - One table, [Routes], says what exists: the router, the labels of metrics and
//     the tests walk it.
//   - One place writes failures: OCI JSON always, also for unknown paths and
//     methods. A client reads what an [origin.Error] says and nothing else of an
//     error; what is not an Error is logged once and answered as "internal error".
//   - A path is never decoded, cleaned or redirected: a percent sign in it is an
//     invalid name.
//   - Bytes leave as they are stored: no content encoding, no conversion, the
//     media type as pushed, whatever Accept says.
//   - Once a body has begun, a failure cuts the connection: what is cut must look
//     cut.
//   - Time limits bound standing still, never the whole: deadlines are renewed with
//     every step of a body, in both directions.
//   - Whatever can be refused is refused before a request's body is read.
package serve
