# needs: go
# fixture: cd $SRC && go build -trimpath -o $FIXTURE/http2 http2.go
# A Go server and client over TLS and HTTP/2: many streams in one connection, flow control, a cancelled one.
$FIXTURE/http2
