// Package origintest is the exam that every [origin.Registry] passes, and a way
// to write down what a registry holds as a literal.
//
// [Test] examines a whole registry, [Reader] its pull half alone, over content
// that was put there by other means: behind a mirror, or over HTTP. They speak of
// nothing but the interface, so that they hold at any distance: a registry over a
// store, one that is reached over HTTP and one that reads through to others pass
// the same tests.
//
// [Content] describes registries with symbolic names in place of digests;
// [Image], [Index], [Artifact] and their like make a [Tree], a manifest with all
// that it needs. Both push themselves into any [origin.Writer].
//
// The package refuses to know how a registry works: a test that needs a store, a
// clock or a request belongs to the registry's own room.
package origintest
