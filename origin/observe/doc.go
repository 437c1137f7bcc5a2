// Package observe counts, times and logs what the rest does.
//
// [Metrics] holds every metric that weir exports, with one plain method per event;
// other rooms see it through small interfaces of their own and need not know what
// counts them. [Metrics.Blobs] and [Metrics.Records] wrap a store. [HTTP] wraps a
// handler: it names each request, measures it and writes its one line of the access
// log. [Tracing] exports spans: its HTTP begins those of requests, its Registry and its
// Transport, and the wrapped stores, those within; others begin theirs with [Span].
//
// It refuses labels without a bound: nothing is counted by repository, tag, user or
// path, an unknown method is "other", and a route is a template.
//
// # Laws
//
//   - Observing changes nothing: a wrapped ResponseWriter still takes a file by
//     ReadFrom (sendfile), still flushes, still has deadlines, and a panic goes on
//     as it was. A wrapped store can do what it could before, no more and no less.
//   - One request is one line, written when its last byte has left or its
//     connection was cut.
//   - Nothing waits for what observes: a receiver of spans that is away, or hangs, costs
//     spans. They are counted.
//   - What is not traced is not wrapped for it.
//   - A span says what was done and what came of it: no query, no error's text, nobody's
//     name.
//   - No line contains a query string, and none a control character that a
//     terminal would obey.
package observe
