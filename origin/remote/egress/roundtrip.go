package egress

import "net/http"

// RoundTrip implements http.RoundTripper, for libraries that want an http.Client
// for the configured URL. All that Send promises holds: a redirect, which the
// http.Client follows, may lead nowhere else, and a credential that it takes along to
// another host or port is an error there.
func (c *Client) RoundTrip(r *http.Request) (*http.Response, error) {
	var authorization Secret
	if header := r.Header.Get("Authorization"); header != "" {
		authorization = Conceal(header)
	}
	a, err := c.Send(r.Context(), Request{
		Method: r.Method, URL: r.URL, Header: r.Header, Body: r.Body, GetBody: r.GetBody, Length: r.ContentLength,
	}, authorization)
	if err != nil {
		return nil, err
	}
	a.Request = r
	return a.Response, nil
}
