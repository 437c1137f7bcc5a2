package s3

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/opencontainers/go-digest"
)

// Whoever asks within the moment for which a pointer is believed gets the same address;
// another pointer, or another time, has another, and a blob that was deleted does not
// come back with one.
func TestAddressesOfAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := s3.New(s3.Options{
			Region: "eu-west-1", Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}, nil
			}),
		})
		b := newBlobs(&Store{bucket: "bucket", presign: s3.NewPresignClient(client)}, Options{})
		d := digest.FromString("blob")
		see := func() pointer {
			p := pointer{Data: newID(), seen: time.Now()}
			b.known.put(d, p)
			return p
		}
		ask := func(p pointer, ttl time.Duration) string {
			t.Helper()
			url, err := b.Presign(t.Context(), d, ttl)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(url, p.Data) {
				t.Errorf("%s is not of %s", url, p.Data)
			}
			return url
		}
		p := see()
		first := ask(p, time.Minute)
		time.Sleep(fresh - 1)
		if again := ask(p, time.Minute); again != first {
			t.Errorf("another address: %s", again)
		}
		if other := ask(p, time.Hour); other == first || !strings.Contains(other, "X-Amz-Expires=3600") {
			t.Errorf("for an hour: %s", other)
		}
		time.Sleep(2 * time.Second)
		ask(see(), time.Minute)

		p, _ = b.known.get(d)
		b.known.forget(d)
		b.known.amend(d, p)
		if _, ok := b.known.get(d); ok {
			t.Error("a blob that was deleted is known")
		}
	})
}
