package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/origin"
)

// explainTimeout is for the whole answer: it is small, and asks no upstream.
const explainTimeout = 30 * time.Second

func newExplain() *cobra.Command {
	var (
		server serverFlags
		raw    bool
	)
	cmd := &cobra.Command{
		Use:   "explain IMAGE [--server URL] [--ca FILE] [--json]",
		Short: "Say where an image comes from and what of it is here",
		Long: `Asks a running weir about an image: which route a pull of it takes, which
upstream and endpoints, how fresh its tag is and why, and where each of its
blobs is. It is asked as whoever is logged in to it ("docker login", or a
credential helper), and as nobody if nobody is.`,
		Example: `  weir explain docker.io/library/nginx:1.27
  weir explain team/app:v3 --server https://registry.corp --json`,
		Args: exactly(1, "the image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			base, client, err := server.open(cmd, explainTimeout, 1)
			if err != nil {
				return err
			}
			answer, err := askExplain(cmd.Context(), client, base.String(), args[0])
			if err != nil {
				return fmt.Errorf("explain %s: %w", args[0], err)
			}
			if raw {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(string(answer)))
				return err
			}
			var e origin.Explanation
			if err := json.Unmarshal(answer, &e); err != nil {
				return fmt.Errorf("explain %s: %s does not answer as weir does: %w", args[0], base, err)
			}
			return printExplanation(cmd.OutOrStdout(), &e)
		},
	}
	server.add(cmd, "ask")
	cmd.Flags().BoolVar(&raw, "json", false, "print the answer as it came, in JSON")
	return cmd
}

// askExplain gives the body of the server's answer.
func askExplain(ctx context.Context, client *http.Client, server, image string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/v2/_ext/explain?image="+url.QueryEscape(image), nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		if bad, ok := errors.AsType[*url.Error](err); ok {
			err = bad.Err
		}
		return nil, fmt.Errorf("no answer from %s: %w", server, err)
	}
	defer res.Body.Close()
	const largest = 4 << 20
	body, err := io.ReadAll(io.LimitReader(res.Body, largest))
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", server, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", server, refusal(res.Status, body))
	}
	return body, nil
}

// refusal is the reason in the body of an answer that is none, or its status.
func refusal(status string, body []byte) string {
	var said struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(body, &said) != nil || len(said.Errors) == 0 {
		return status
	}
	return fmt.Sprintf("%s: %s (%s)", status, said.Errors[0].Message, said.Errors[0].Code)
}
