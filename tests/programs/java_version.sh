# needs: java
java -version 2>&1
java -Xlog:disable -Xint -version >/dev/null 2>&1; echo $?
