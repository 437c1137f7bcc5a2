// Package client writes the configuration that makes containerd, Docker and
// podman ask weir before they ask a registry.
//
// A [File] is one of their files; it knows how weir's part is put into what stands
// there already, and how it is taken out again. [Containerd], [Docker] and [Podman]
// make the files of each.
//
// # Laws
//
//   - Nothing of others is lost or moved: not a key, not a comment, not a line.
//     A file in which weir's part has no place is left alone, with an error.
//   - Putting twice is putting once, and what is taken out leaves what was there.
//   - A file is whole at every moment: it is replaced by a rename.
//
// In TOML weir's part stands between two comment lines. JSON has no comments:
// there it is the mirror's own entries in two lists.
package client
