// Package oracletest tells whether a registry has kept its word, whatever happened to
// it meanwhile.
//
// Workers do random things to a registry and write into a ledger what was answered:
// acknowledged, refused, or unknown, where there was no answer or one that says that
// the registry has failed. Afterwards, and against a fresh process if there was a
// crash, Check reads everything back and compares.
//
//	world := oracletest.NewWorld(seed, 4<<10)
//	ledger := new(oracletest.Ledger)
//	w := oracletest.NewWorker(registry, ledger, world, seed, 0)
//	for range 500 {
//		if err := w.Step(ctx); err != nil { … } // it broke its word at once
//	}
//	// crash, restart
//	err := oracletest.Check(ctx, registry, ledger, world)
//
// A registry in this process and one behind HTTP ([HTTP]) are the same to it.
//
// # What is checked
//
//   - What was acknowledged last is there, or what came after it and is unknown;
//     nothing older, and nothing in between. What was deleted stays deleted.
//   - Each body that ends without an error has the digest that it is asked by, or that
//     its tag names. A tag never names what is not there.
//   - Listings of tags, repositories and referrers have what single requests find, and
//     nothing else.
//   - A refusal has a reason: something that may be missing.
//
// Each name is judged on its own: of a push with two tags that was cut short, one may
// be there.
//
// # Laws
//
//   - Operations may overlap. One counts as later than another only if it began after
//     that one had ended; of two that overlap, either may have been first.
//   - Everything is drawn from seeds. With one worker, a seed tells the whole story.
package oracletest
