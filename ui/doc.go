// Package ui is the face of weir for people: pages at /ui/ that show what package view
// shows, delete, and sign in.
//
// Pages are made here, of templates; scripts make them livelier, and none is needed.
//
// # Laws
//
//   - What a page shows comes from package view, and what it changes goes through a guard.
//   - A session is a cookie that only this package reads: /v2/ does not know of it, and what
//     pages of other sites have a browser ask for comes without it.
//   - Text is text: templates escape whatever comes from content, and no answer lets a
//     browser run what is not a file of this package.
package ui
