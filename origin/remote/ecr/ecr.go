// Package ecr gets logins for the registries of Amazon ECR: the private ones, and
// public.ecr.aws, which limits whoever logs in less.
//
// Who weir is comes from the AWS default chain (environment, shared files, web
// identity, container and instance roles), looked at when the first login is
// needed. AWS_ENDPOINT_URL_ECR, AWS_ENDPOINT_URL_ECR_PUBLIC and AWS_ENDPOINT_URL lead to
// another service, as in everything that AWS's own client does.
package ecr

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecrpublic"

	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
)

// life is that of a token of which AWS does not say how long it lives.
const life = 12 * time.Hour

// New is the login for the registry at a host, such as
// 123456789012.dkr.ecr.eu-central-1.amazonaws.com: the host names the region. One
// that does not is in the region that the default chain says. That of public.ecr.aws has
// another service, in one region. AWS is asked through client; nil = one that waits 10 s
// for an answer.
func New(host string, client aws.HTTPClient) *login.Cache {
	s := &service{host: host, http: client}
	return login.NewCache(s.fetch)
}

// service is AWS's client, made when it is first needed.
type service struct {
	host string
	http aws.HTTPClient
	mu   sync.Mutex
	ask  asker
}

// asker asks AWS for a token. nil: there was none in the answer, or not when it lapses.
type asker func(ctx context.Context) (token *string, lapses *time.Time, err error)

func (s *service) fetch(ctx context.Context) (login.Login, time.Time, error) {
	ask, err := s.open(ctx)
	if err != nil {
		return login.Login{}, time.Time{}, err
	}
	token, said, err := ask(ctx)
	if err == nil && token == nil {
		err = errors.New("ECR: an answer without a token")
	}
	if err != nil {
		return login.Login{}, time.Time{}, err
	}
	l, err := read(*token)
	if err != nil {
		return login.Login{}, time.Time{}, err
	}
	lapses := time.Now().Add(life)
	if said != nil && said.Before(lapses) {
		lapses = *said
	}
	return l, lapses, nil
}

func (s *service) open(ctx context.Context) (asker, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ask != nil {
		return s.ask, nil
	}
	if s.http == nil {
		s.http = awshttp.NewBuildableClient().WithTimeout(10 * time.Second)
	}
	c, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(s.http))
	if err != nil {
		return nil, fmt.Errorf("AWS: %w", err)
	}
	c.RetryMaxAttempts = 2 // whoever pulls waits for it
	if isPublic(s.host) {
		s.ask = askPublic(c)
	} else {
		s.ask = askPrivate(c, s.host)
	}
	return s.ask, nil
}

func askPrivate(c aws.Config, host string) asker {
	region, fips := region(host)
	client := ecr.NewFromConfig(c, func(o *ecr.Options) {
		if region != "" {
			o.Region = region
		}
		if fips {
			o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
		}
	})
	return func(ctx context.Context) (*string, *time.Time, error) {
		out, err := client.GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{})
		if err != nil || len(out.AuthorizationData) == 0 {
			return nil, nil, err
		}
		return out.AuthorizationData[0].AuthorizationToken, out.AuthorizationData[0].ExpiresAt, nil
	}
}

// publicRegion is the only region that gives tokens for public.ecr.aws.
const publicRegion = "us-east-1"

func isPublic(host string) bool {
	host, _, _ = strings.Cut(strings.ToLower(host), ":")
	return host == "public.ecr.aws"
}

func askPublic(c aws.Config) asker {
	client := ecrpublic.NewFromConfig(c, func(o *ecrpublic.Options) { o.Region = publicRegion })
	return func(ctx context.Context) (*string, *time.Time, error) {
		out, err := client.GetAuthorizationToken(ctx, &ecrpublic.GetAuthorizationTokenInput{})
		if err != nil || out.AuthorizationData == nil {
			return nil, nil, err
		}
		return out.AuthorizationData.AuthorizationToken, out.AuthorizationData.ExpiresAt, nil
	}
}

// hosts are ECR's: in the partitions of AWS, with FIPS, with IPv6.
var hosts = regexp.MustCompile(`^[0-9]{12}\.dkr[.-]ecr(-fips)?\.([a-z0-9-]+)\.(amazonaws\.com(\.cn)?|on\.aws|on\.amazonwebservices\.com\.cn)$`)

// region gives what a host says of where it is, "" if it is not ECR's.
func region(host string) (region string, fips bool) {
	host, _, _ = strings.Cut(strings.ToLower(host), ":")
	m := hosts.FindStringSubmatch(host)
	if m == nil {
		return "", false
	}
	return m[2], m[1] != ""
}

// read reads a token: base64 of a user name, a colon and a password.
func read(token string) (login.Login, error) {
	b, err := base64.StdEncoding.DecodeString(token)
	username, password, ok := strings.Cut(string(b), ":")
	if err != nil || !ok || password == "" {
		return login.Login{}, errors.New("ECR: an answer with a malformed token")
	}
	return login.Login{Username: username, Password: egress.Conceal(password)}, nil
}
