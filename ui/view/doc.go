// Package view says what is shown of a registry: to programs below /v2/_ext/, and to
// people on the pages of package ui. Both show the same values, which are made here once.
//
// It reads what is here, through a guard, and asks no upstream: to look at a mirror costs
// none of its requests. Names are full names.
//
// # Laws
//
//   - Whoever asks is asked for the right to list, once; of what is listed they see what
//     they may pull, and nothing of the rest.
//   - What may not be pulled is answered as what does not exist.
//   - A request makes at most 200 decisions and takes at most 5 s of them; a page is short
//     then, and says where the next one begins. What a listed tag names (its size and
//     platforms) is shown on the decision about the tag.
package view
