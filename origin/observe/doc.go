// Package observe counts, times and logs what the rest does.
//
// [Metrics] holds every metric that weir exports for HTTP, mirrors and fills, with
// one plain method per event; other rooms see it through small interfaces of
// their own and need not know what counts them. [HTTP] wraps a handler: it names
// each request, measures it and writes its one line of the access log.
//
// It refuses labels without a bound: nothing is counted by repository, tag, user or
// path, an unknown method is "other", and a route is a template.
//
// # Laws
//
//   - Observing changes nothing: a wrapped ResponseWriter still takes a file by
//     ReadFrom (sendfile), still flushes, still has deadlines, and a panic goes on
//     as it was.
//   - One request is one line, written when its last byte has left or its
//     connection was cut.
//   - No line contains a query string, and none a control character that a
//     terminal would obey.
package observe
