// Command bench measures weir beside its peers: the same work, in the same run, on
// the same disk, and prints one table.
//
//	make bench                 everything, about fifteen minutes on two cores
//	make bench ROWS=push,hot   the rows whose names these expressions match
//
// It refuses to be a test: nothing in it fails because a machine is slow. Seconds
// and megabytes per second belong to the machine and the minute; what is worth
// reading is the CPU that a server spends per gigabyte or request, its memory, what
// it asks of its upstream, and its ratio to the peer measured a moment before. A
// goal that is not reached prints MISS, keeps a CPU profile of weir, and exits 0.
// Only what did not work (wrong bytes, an error, no answer where there must be one)
// exits 1.
//
// # Laws
//
//   - A number comes from a server that was started for its row, in a directory that
//     was empty before it, on loopback; it is ended by its process id.
//   - Data and digests are made, and stored content is put into place and read once,
//     before the clock starts. Servers are restarted in between, so that their peak
//     of memory is the row's own.
//   - Clients are another process than the server: CPU is read for the server and its
//     children alone, from /proc.
//   - Every answer counts only when its status, length and, where a whole blob was
//     read by our own client, its digest are right.
//   - A peer that is not to be had is left out. Where a goal is relative to it, the
//     ratio that it once had to a peer which is there stands in for it, and the table
//     says so.
package main
