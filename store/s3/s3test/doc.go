// Package s3test starts a real S3 server for tests, and stands between it and a store to
// let requests go wrong.
//
//	server := s3test.Start(t)
//	faults := s3test.NewFaults(t, server)
//	faults.Set(func(r *http.Request) s3test.Fault { return s3test.Lost })
//	s, err := s3.Open(ctx, s3.Options{Endpoint: faults.URL, Bucket: server.Bucket(t), …})
//
// The server is versitygw over a directory. Two of its ways are not S3's: no key may be a
// path prefix of another, and a key's "a//b" is "a/b".
package s3test
