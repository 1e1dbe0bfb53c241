# needs: javac java
# fixture: javac -d $FIXTURE $SRC/Churn.java
# Threads that allocate, wait, lock and are interrupted, under each collector; then the compiler itself.
for gc in G1 Z; do
  echo "$gc"; java -XX:+Use${gc}GC -Xmx160m -XX:TieredStopAtLevel=1 -cp $FIXTURE Churn 16; echo "status $?"
done
cat >Hello.java <<'J'
public class Hello { public static void main(String[] a) { System.out.println(String.join("-", a)); } }
J
javac -J-XX:TieredStopAtLevel=1 Hello.java; echo "javac $?"; java -Xshare:auto Hello a b; rm -f Hello.class
