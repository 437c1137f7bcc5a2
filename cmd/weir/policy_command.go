package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/policy"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
)

func newPolicyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy test --config FILE --action A --repository R",
		Short: "Ask a configuration who may do what",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
	}
	test := newPolicyTest()
	test.DisableFlagsInUseLine = true
	cmd.AddCommand(test)
	return cmd
}

// errDenied says that the decision is no.
var errDenied = errors.New("denied")

func newPolicyTest() *cobra.Command {
	var (
		files    []string
		f        questionFlags
		webhooks bool
	)
	cmd := &cobra.Command{
		Use:   "test --config FILE [--user U] [--claim k=v]... [--ip A] --action A --repository R [--tag T] [--webhooks]",
		Short: "Say what the policy decides, and which rule did",
		Long: `Says what the policy in a configuration decides, and which rule, default or
webhook decided: of what is denied the one that did, of what is allowed all that
agreed. Exits with 0 if it is allowed, with 3 if it is denied.

Without --user and --claim nobody is asking. --user ci is basic:ci, somebody of
authz.basic; an id in full (oidc:github:SUBJECT, mtls:ISSUER:SUBJECT) is somebody
else. --claim is what an OIDC provider says, and may be repeated: k=a k=b is a list,
and true, false, [..] and {..} are JSON. The groups are in the claim groups, or in
the one that the provider's groups_claim names.

Who asks is elsewhere (192.0.2.1) unless --ip says otherwise: what a policy lets
this machine do wants --ip 127.0.0.1. Webhooks are not asked without --webhooks.`,
		Example: `  weir policy test --config weir.yaml --user ci --action push --repository team/app
  weir policy test --config weir.yaml --user oidc:github:repo:org/app:ref:refs/heads/main \
      --claim repository=org/app --action push --repository team/app --tag v1
  weir policy test --config weir.yaml --action pull --repository docker.io/library/nginx`,
		RunE: func(cmd *cobra.Command, args []string) error {
			files := append(files, args...) // a shell makes --config *.yaml into more arguments
			if len(files) == 0 {
				return misused(cmd, "--config is missing: name the files with the policy")
			}
			who, what, err := f.question()
			if err != nil {
				return misused(cmd, "%w", err)
			}
			c, err := config.Load(files, os.LookupEnv)
			if err != nil {
				return err
			}
			who = asConfigured(who, c.Authz.OIDC)
			if what.Repository, what.Upstream, err = located(c, what.Repository); err != nil {
				return misused(cmd, "--repository: %w", err)
			}
			return testPolicy(cmd.Context(), c, webhooks, who, what, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	configFlag(cmd, &files)
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.user, "user", "", "ask as user `U`: a name of authz.basic, or an id in full")
	flags.StringArrayVar(&f.claims, "claim", nil, "with the claim `K=V` of an OIDC provider; repeatable")
	flags.StringVar(&f.ip, "ip", "", "from address `A`")
	flags.StringVar(&f.action, "action", "", "for action `A`: "+strings.Join(actionNames(), ", "))
	flags.StringVar(&f.repository, "repository", "", "in repository `R`, upstream in front; list and admin need none")
	flags.StringVar(&f.tag, "tag", "", "for tag `T`")
	flags.BoolVar(&webhooks, "webhooks", false, "ask webhooks too")
	return cmd
}

// testPolicy prints a decision. Errors: errDenied, if it is no.
func testPolicy(ctx context.Context, c *config.Config, ask bool, who authz.Identity, what authz.Access, stdout, stderr io.Writer) error {
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{
		Level: slog.LevelWarn,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	var hooks *webhooks
	if ask {
		var err error
		if hooks, err = newWebhooks(c.Authz.Webhooks, egress.Network{}, log, nil); err != nil {
			return err
		}
		defer hooks.close()
	}
	p, err := newPolicy(c, alone(c), hooks, log, nil)
	if err != nil {
		return err
	}
	what.Time = time.Now()
	d := p.Decide(ctx, who, what)
	_, err = fmt.Fprintln(stdout, decisionLine(d))
	if err == nil && !d.Allowed {
		err = errDenied
	}
	return err
}

// decisionLine is a decision as it is printed.
func decisionLine(d policy.Decision) string {
	word := "deny"
	if d.Allowed {
		word = "allow"
	}
	line := word + ": " + d.By
	if d.Cause != nil {
		line += " (" + d.Cause.Error() + ")"
	}
	return line
}

// located gives the one name of a repository, and the upstream that it is mirrored from;
// "" = none: a name without an upstream in front is local.
func located(c *config.Config, repository string) (name, upstream string, err error) {
	if repository == "" {
		return "", "", nil
	}
	var upstreams []*mirror.Upstream
	for _, u := range c.Mirror.Upstreams {
		upstreams = append(upstreams, &mirror.Upstream{Name: u.Name, Aliases: u.Aliases})
	}
	table, err := mirror.NewTable(upstreams, "", "")
	if err != nil {
		return "", "", err
	}
	repo, err := origin.ParseRepo(repository)
	if err != nil {
		return "", "", err
	}
	if repo, err = table.Name("", "", repo); err != nil {
		return "", "", err
	}
	for _, u := range upstreams {
		if config.PathOf(u.Name) == repo.First() && !repo.Rest().IsZero() {
			upstream = u.Name
		}
	}
	return repo.String(), upstream, nil
}
