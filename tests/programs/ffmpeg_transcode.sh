# needs: ffmpeg ffprobe
# Pictures and tones made, encoded, read back, cut, piped and hashed frame by frame.
f() { ffmpeg -nostdin -hide_banner -loglevel error -y -threads 2 "$@"; }
f -f lavfi -i testsrc=size=160x120:rate=10:duration=2 -f lavfi -i sine=frequency=440:duration=2 \
  -c:v mpeg4 -q:v 5 -c:a pcm_s16le -bitexact -flags bitexact -fflags bitexact out.avi; echo "encode $?"
ffprobe -v error -show_entries stream=codec_name,width,height,nb_frames,sample_rate -of csv out.avi
f -i out.avi -map 0:v -f framemd5 -bitexact - | tail -3
f -i out.avi -ss 0.5 -t 1 -vf scale=80:60,hflip -c:v ffv1 -an -bitexact cut.mkv; echo "cut $?"
ffprobe -v error -count_frames -show_entries stream=nb_read_frames,width -of csv cut.mkv
f -i out.avi -vn -f wav -bitexact - | f -i - -af volume=0.5 -f md5 -
f -i out.avi -frames:v 3 -bitexact p%d.png; ls p*.png | wc -l
f -i missing.avi out2.avi 2>/dev/null; echo "missing $?"
rm -f *.avi *.mkv *.png
