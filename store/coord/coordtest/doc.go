// Package coordtest is the exam that whatever coordinates replicas passes, and the Redis
// server that tests start for it.
//
// [Locks], [Values] and [Changes] examine two parties that share what they coordinate by.
// [Start] runs Debian's redis-server on a free port of loopback; it can be stopped,
// started again, held and resumed, and spoken to behind everybody's back.
package coordtest
